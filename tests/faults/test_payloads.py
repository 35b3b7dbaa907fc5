"""Ten thousand damaged payloads of LangGraph's: each is a value or a FormatError, in bounded time and memory."""

from __future__ import annotations

import pytest
from payloads import in_a_process, mutants

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


def test_ten_thousand_mutants_are_values_or_damage() -> None:
    """Nothing but a value or a FormatError comes of changed bytes, and no module."""
    assert set(in_a_process(mutants(10_000))) == {"value", "damaged"}
