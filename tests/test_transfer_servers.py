"""Copying to servers and back."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import pytest

import persistkit

SAVED = datetime(2021, 3, 4, 5, 6, 7, 890123, tzinfo=UTC)
ITEMS = {"run/1": b"{}", "a>_": b"\0\xff", "": b"", "large": b"x" * 9_000_000}


@pytest.mark.parametrize("server", ["postgresql", "valkey", "s3"])
def test_a_copy_to_a_server_and_back(server: str, request: pytest.FixtureRequest) -> None:
    """Every value arrives and comes back; the report says where the time is that of the copy; again, all is skipped."""
    name = f"t{uuid.uuid4().hex}"
    if server == "s3":
        store = request.getfixturevalue("s3_server")
        target = persistkit.open_engine(f"s3://{store.bucket}/{name}", **store.options)
    elif server == "valkey":
        target = persistkit.open_engine(request.getfixturevalue("valkey_address"), namespace=name)
    else:
        target = persistkit.open_engine(request.getfixturevalue("postgresql_address"), table=name, create=True)
    with target, persistkit.open("memory:") as source, persistkit.open("memory:") as back:
        source.engine.batch_save(ITEMS, times=dict.fromkeys(ITEMS, SAVED))
        report = source.copy_to(target)
        assert (report.copied, report.undated) == (len(ITEMS), 0 if server == "postgresql" else len(ITEMS))
        assert source.compare(target).empty
        assert source.copy_to(target, overwrite="skip").skipped == len(ITEMS)
        persistkit.Store(target).copy_to(back)
        assert {key: back.get_bytes(key) for key in back.keys()} == ITEMS  # noqa: SIM118
        kept = {entry.modified == SAVED for entry in target.entries()}
        assert kept == {server == "postgresql"}
