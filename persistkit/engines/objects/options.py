"""Options: what opens an object store, checked before obstore would panic over it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlunsplit

from obstore.exceptions import BaseError
from obstore.store import from_url

from persistkit.engines.addresses import bucket_url, hidden

__all__ = ["Place", "is_panic", "place_of"]

_VARIABLES: Final = ("AWS_", "GOOGLE_", "AZURE_")
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_SECRET: Final = re.compile(r"key|secret|token|password|credential|sas", re.IGNORECASE)
# The names of obstore's ClientConfig; among the store's own options each of them is a panic.
_CLIENT_OPTION: Final = re.compile(
    "allow_http|allow_invalid_certificates|(connect_|read_)?timeout|default_content_type|http1_only|"
    "http2_(keep_alive_(interval|timeout|while_idle)|max_frame_size|only)|pool_(idle_timeout|max_idle_per_host)|"
    "proxy_(ca_certificate|excludes|url)|randomize_addresses|user_agent"
)


@dataclass(frozen=True, slots=True)
class Place:
    """An object store, and what may be told about it.

    Attributes:
        store: of obstore. Any: its seven classes share no base class.
        shown: the address, or the class of a store that was given.
        public_options: those that hold no secret.
        secrets: what no message may hold.
    """

    store: Any
    shown: str
    public_options: Mapping[str, str | bool]
    secrets: tuple[str, ...]


def place_of(address: Any, timeout_seconds: float, options: Mapping[str, str | bool]) -> Place:
    """Return the place an address leads to; or the one of a store of obstore, which is why it is Any.

    Raises:
        TypeError: an option is neither text nor a bool.
        ValueError: the address or an option cannot be.
    """
    taken: dict[str, Any] = dict(options)
    if not isinstance(address, str):
        for told in ("config", "client_options"):  # of a store that was given
            taken |= getattr(address, told, None) or {}
    taken |= {name: value for name, value in os.environ.items() if name.startswith(_VARIABLES)}
    secrets = tuple({str(value) for name, value in taken.items() if _is_secret(name, value)})
    public = {name: value for name, value in options.items() if not _is_secret(name, value)}
    if not isinstance(address, str):
        return Place(address, type(address).__name__, public, secrets)
    shown = urlunsplit(bucket_url(address))
    _check_options(shown, options)
    return Place(_opened(shown, timeout_seconds, options, secrets), shown, public, secrets)


def is_panic(error: BaseException) -> bool:
    """Tell whether an error is a panic of obstore, which is no ``Exception`` and cannot be imported."""
    return type(error).__name__ == "PanicException"


def _is_secret(name: str, value: object) -> bool:
    return bool(_SECRET.search(name)) or ("proxy" in name.lower() and "@" in str(value))


def _check_options(shown: str, options: Mapping[str, str | bool]) -> None:
    """Refuse what obstore would answer without the option's name, or with a panic at the first request."""
    for name, value in options.items():
        if not isinstance(value, (str, bool)):
            raise TypeError(f"open {shown!r}: the option {name!r} is text, not {type(value).__name__}; leave it out")
        if shown.startswith("s3:") and not str(value).isprintable():
            raise ValueError(
                f"open {shown!r}: the option {name!r} holds a character that is not printable, such as the end of a "
                "line it was read with; write .strip()"
            )


def _opened(
    shown: str, timeout_seconds: float, options: Mapping[str, str | bool], secrets: tuple[str, ...]
) -> Any:  # obstore's seven classes share no base class
    endpoints = [str(value) for name, value in options.items() if "endpoint" in name.lower() and value]
    endpoints = endpoints or [os.environ[name] for name in _ENDPOINTS if os.environ.get(name)]
    for endpoint in endpoints:
        if "@" in endpoint:
            raise ValueError(
                f"open {shown!r}: credentials do not belong in the endpoint; give them by options of their own"
            )
        # obstore would panic with the first request.
        if not endpoint.startswith(("http://", "https://")):
            raise ValueError(f"an endpoint begins with http:// or https://, not {endpoint!r}; write https://{endpoint}")
    client = {name: value for name, value in options.items() if _CLIENT_OPTION.fullmatch(name.lower())}
    open_url: Any = from_url  # Any: its stub wants one of three typed dictionaries, by the scheme
    try:
        return open_url(
            shown.rstrip("/"),
            config={name: value for name, value in options.items() if name not in client} or None,
            client_options={
                "timeout": timedelta(seconds=timeout_seconds),
                "connect_timeout": timedelta(seconds=timeout_seconds),
                "allow_http": any(endpoint.startswith("http://") for endpoint in endpoints),
                **client,
            },
            # obstore's own defaults try for three minutes.
            retry_config={
                "max_retries": 3,
                "retry_timeout": timedelta(seconds=timeout_seconds),
                "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=1), "base": 2},
            },
        )
    except BaseException as error:
        if not isinstance(error, (BaseError, TypeError, ValueError)) and not is_panic(error):
            raise
        reason = hidden(str(error).partition("\n")[0], secrets)
    raise ValueError(
        f"open {shown!r}: {reason}; options are those of obstore, such as endpoint, region, access_key_id, "
        "secret_access_key, proxy_url"
    )
