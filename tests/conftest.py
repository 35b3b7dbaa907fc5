"""Fixtures shared by the tests."""

from __future__ import annotations

from collections.abc import Iterator

import engines
import pytest

pytest.register_assert_rewrite("persistkit.testing")


@pytest.fixture
def anyio_backend() -> str:
    """Run the asynchronous tests on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def postgresql_address() -> Iterator[str]:
    """Start one PostgreSQL for the session."""
    with engines.postgresql() as address:
        yield address
