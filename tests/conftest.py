"""Fixtures shared by the tests."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("persistkit.testing")


@pytest.fixture
def anyio_backend() -> str:
    """Run the asynchronous tests on asyncio."""
    return "asyncio"
