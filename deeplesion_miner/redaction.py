"""What messages may show of addresses that people write: never a password."""

from __future__ import annotations

import re

HIDDEN = "***"
_URL_WITH_CREDENTIALS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:/+)\S*@")
"""Up to the last '@' before a space, since passwords hold '@' and '/' where they were not escaped (RFC 3986 3.2.1)."""
_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*:/+)")


def redacted(text: str) -> str:
    """A message as it may be shown: URLs in it lose what stands before their '@'."""
    return _URL_WITH_CREDENTIALS.sub(rf"\1{HIDDEN}@", text)


def shown_address(text: str) -> str:
    """One address as it may be shown, whatever is wrong with it.

    What may be a password is left out: all before the last '@' of a URL, or where a colon parts it as in
    'user:password@host', and the query of a URL. 'AET@host:port' stays as it is.
    """
    credentials, at, place = text.rpartition("@")
    found = _SCHEME.match(text)
    scheme = found.group(1) if found else ""
    if at and ":" in credentials:
        text = f"{scheme}{HIDDEN}@{place}"
    return re.split("[?#]", text, maxsplit=1)[0] if scheme else text
