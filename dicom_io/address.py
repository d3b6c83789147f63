"""Where an archive is: ``AET@host:port``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from deeplesion_miner.errors import ConfigError
from deeplesion_miner.redaction import HIDDEN, shown_address


@dataclass(frozen=True)
class Address:
    """A DICOM application entity on the network."""

    ae_title: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """The address written as ``AET@host:port``; an IPv6 host stands in brackets.

        Raises `ConfigError`, which shows nothing that may be a password.
        """
        shown = f"archive address {shown_address(text)!r}"
        title, at, place = text.strip().rpartition("@")
        host, colon, port = place.rpartition(":")
        if not at or not colon or ":/" in title:
            raise ConfigError(f"{shown}: expected AET@host:port, for instance PACS@10.0.0.5:104")
        host = host.removeprefix("[").removesuffix("]")
        if not host or any(character.isspace() for character in host):
            raise ConfigError(f"{shown}: the host {host!r} is empty or holds a space")
        if not is_host(host):
            raise ConfigError(f"{shown}: {host!r} is neither the name of a host nor a number")
        if not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
            raise ConfigError(f"{shown}: the port {port!r} is not a number from 1 to 65535")
        return cls(ae_title(title), host, int(port))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.ae_title}@{host}:{self.port}"


def is_host(text: str) -> bool:
    """Whether a text can be the name or the number of a host (RFC 1035 2.3.4: no part of a name is longer than 63)."""
    try:
        text.encode("idna")
    except UnicodeError:
        return False
    return bool(text) and text.isprintable()


def ae_title(text: str) -> str:
    """The application entity title without outer spaces (PS3.5 table 6.2-1, AE). Raises `ConfigError`.

    Case is kept: most archives compare titles to the letter.
    """
    title = text.strip(" ")
    user, colon, _ = text.partition(":")
    shown = f"{user}:{HIDDEN}" if colon else text  # it may be the user:password of something else
    if not 1 <= len(title) <= 16:
        raise ConfigError(f"AE title {shown!r}: {len(title)} characters; from 1 to 16 are allowed")
    if not all(" " <= character <= "~" and character != "\\" for character in title):
        raise ConfigError(f"AE title {shown!r}: only printable ASCII without backslash is allowed")
    return title
