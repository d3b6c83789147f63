"""Text of results within the limits of DICOM's value representations (PS3.5 6.2)."""

from __future__ import annotations

import unicodedata

LONG_STRING, SHORT_STRING = 64, 16
"""Most characters of an LO and of an SH."""


def one_line(text: str, most: int) -> str:
    """At most so many characters of a text, without control characters and the backslash that would split it."""
    plain = "".join(" " if not character.isprintable() or character == "\\" else character for character in text)
    return " ".join(plain.split())[:most].rstrip()


def unlimited(text: str) -> str:
    """A text as a UT holds it: without what UTF-8 cannot encode and control characters other than white space."""
    return "".join(" " if unicodedata.category(one) in ("Cc", "Cs") and one not in "\t\r\n" else one for one in text)


def person_name(text: str) -> str:
    """A name as a PN holds it: three component groups of 64 characters, with the caret that tells it is a name."""
    groups = [one_line(group, LONG_STRING - 1) for group in text.split("=")[:3]]
    name = "=".join(groups).rstrip("=")
    return name if "^" in name or not name else name + "^"
