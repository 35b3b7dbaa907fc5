"""Addresses of servers and buckets: taken apart, and told to nobody with what is secret in them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Final, TypedDict
from urllib.parse import SplitResult, quote, urlsplit

__all__ = ["Options", "bucket_url", "cause_without", "check_path", "hidden", "server_url"]

_SERVER: Final = re.compile(r"([^:/]+://[^@/?#]*@)?[^@]*")
# As it was written, and as Path writes it. Two letters at least: `C:/results` is a path.
_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")


class Options(TypedDict, total=False):
    """What ``open`` hands to the engine of an address; each class says which it takes, and what for.

    A bucket's rarer options (obstore's) are given to its class: ``Store(ObjectEngine(address, ...))``.
    """

    fsync: bool  # files
    timeout_seconds: float  # all but memory
    table: str  # SQLite, PostgreSQL
    namespace: str  # Redis, Valkey
    password: str | None  # Redis, Valkey
    endpoint: str  # buckets, from here on
    region: str
    access_key_id: str
    secret_access_key: str
    session_token: str
    skip_signature: bool
    allow_http: bool
    virtual_hosted_style_request: bool


def check_path(path: str | os.PathLike[str]) -> None:
    """Refuse an address where a path is taken, unless there is such a path; tell nothing of it but the scheme."""
    text = os.fspath(path)
    found = _URL.match(text)
    if found and not os.path.exists(text):  # noqa: PTH110 - Path raises where a name is too long
        raise ValueError(
            f"this is no path but an address, of the scheme {found[1]!r}; persistkit.open(address) opens it, and a "
            "directory of that name is given by its absolute path"
        )


def server_url(address: str) -> SplitResult:
    """Return the parts of a server's address.

    Raises:
        ValueError: the address is not whole, or a character of its password would be taken for a separator, and what
            follows it for something that may be shown. The message holds nothing of the address.
    """
    url = _parts(address)
    if url is None or not _SERVER.fullmatch(address):
        raise ValueError(
            "an address is scheme://user:password@host:port/database, the port a number, and in user and password "
            "%40 stands for @, %2F for /, %3A for :, %3F for ?, %23 for # (urllib.parse.quote(password, safe=''))"
        )
    return url


def bucket_url(address: str) -> SplitResult:
    """Return the parts of a bucket's address, which has no place for credentials.

    Raises:
        ValueError: there is no bucket, or more than bucket and prefix. The message holds nothing of the address.
    """
    url = _parts(address)
    known = url is not None and url.scheme in ("s3", "gs", "az")
    if url is None or not known or not url.netloc or set("@:") & set(url.netloc) or url.query or url.fragment:
        raise ValueError(
            "an address is s3://bucket/prefix, gs://bucket/prefix or az://container/prefix, without ? and #; "
            "credentials do not belong there: write access_key_id=... and secret_access_key=..., or set the "
            "environment's variables"
        )
    return url


def _parts(address: str) -> SplitResult | None:
    try:
        url = urlsplit(address)
        url.port  # noqa: B018 - reading it is the check
    except ValueError:
        return None
    return url


def hidden(text: str, secrets: Iterable[str | None]) -> str:
    """Return ``text`` with every secret replaced."""
    for secret in filter(None, secrets):
        text = text.replace(secret, "***").replace(quote(secret, safe=""), "***")
    return text


def cause_without(error: BaseException, secrets: Iterable[str | None]) -> BaseException | None:
    """Return ``error``, without its long traceback, as a cause; None if it, or what it came from, tells a secret."""
    secrets = list(secrets)
    link: BaseException | None = error
    while link is not None:
        told = f"{link} {link!r}"
        if hidden(told, secrets) != told:
            return None
        link = link.__cause__ or link.__context__
    error.__suppress_context__ = True
    return error.with_traceback(None)
