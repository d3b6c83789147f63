"""Text of results within the limits of DICOM's value representations (PS3.5 6.2)."""

from __future__ import annotations

LONG_STRING, SHORT_STRING = 64, 16
"""Most characters of an LO and of an SH."""


def one_line(text: str, most: int) -> str:
    """At most so many characters of a text, without control characters and the backslash that would split it."""
    plain = "".join(" " if not character.isprintable() or character == "\\" else character for character in text)
    return " ".join(plain.split())[:most].rstrip()
