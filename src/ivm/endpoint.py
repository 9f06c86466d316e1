"""Where an LMM may be asked, and with which key: it goes to nobody else, and never unencrypted."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from ivm.errors import OptionError

__all__ = ["KEY_VARIABLE", "check_address", "check_key", "goes_by_proxy", "read_key", "same_server"]

KEY_VARIABLE = "IVM_LMM_KEY"
"""Environment variable that holds the key of an LMM server, where no other is named."""

_LOCAL = {"localhost", "127.0.0.1", "::1"}


def check_address(base_url: str, api_key: str | None) -> None:
    """Whether an LMM server may be asked at this address with this key.

    Raises:
        OptionError: it is no http address, holds a password or a query, or the key would travel unencrypted.
    """
    shown = base_url.rpartition("@")[2] if isinstance(base_url, str) else base_url
    expected = f"base_url must be such as http://localhost:8000/v1, but got {shown!r}"
    if not isinstance(base_url, str) or not base_url.isprintable() or " " in base_url:
        raise OptionError(expected)  # None: a variable of the environment that is not set
    try:
        address = urlsplit(base_url)
        _ = address.port  # reads it: a port may be no number
    except ValueError as error:
        raise OptionError(f"{expected}: {error}") from None
    if address.scheme not in ("http", "https") or not address.hostname:
        raise OptionError(expected)
    if address.username or address.password:
        raise OptionError("base_url must not hold a user or password: pass api_key")
    if "?" in base_url or "#" in base_url:  # /chat/completions would become a part of it
        raise OptionError(
            "base_url must end with the version, as http://localhost:8000/v1 does, but has a ? or # behind it"
        )
    if api_key and address.scheme == "http" and address.hostname not in _LOCAL:
        raise OptionError(
            f"api_key would travel unencrypted to {address.hostname}: base_url must begin with https"
        )


def goes_by_proxy(base_url: str) -> bool:
    """Whether a proxy that the environment names (HTTP_PROXY, ALL_PROXY, ...) may carry requests to a server.

    Not those to this machine over plain http: the proxy may be another machine, and could read the key. Over
    https a proxy sees none of it.
    """
    address = urlsplit(base_url)
    return not (address.scheme == "http" and address.hostname in _LOCAL)


def check_key(api_key: str | None, name: str = "api_key") -> str | None:
    """A key as it is sent: without white space around it, as a file's last line end; None if nothing is left.

    Raises:
        OptionError: a header cannot hold it. The message does not, either.
    """
    key = api_key.strip() if isinstance(api_key, str) else api_key
    if key and not (isinstance(key, str) and key.isascii() and key.isprintable()):
        raise OptionError(f"{name} must be printable ASCII text, but is not (it is not shown)")
    return key or None


def read_key(variable: str) -> str | None:
    """The key in an environment variable; None if `KEY_VARIABLE` is not set: not every server needs one.

    Raises:
        OptionError: another variable was named, but is not set: the server would be asked without the key.
    """
    key = os.environ.get(variable) or None
    if key is None and variable != KEY_VARIABLE:
        # Not repeated here: somebody may have given the key itself.
        raise OptionError("the environment variable that was named for the key is not set, or empty")
    return key


def same_server(base_url: str, other: str) -> bool:
    """Whether two addresses are of one server: the same scheme, host and port."""
    ours, theirs = urlsplit(base_url), urlsplit(other)
    return (ours.scheme, ours.netloc.lower()) == (theirs.scheme, theirs.netloc.lower())
