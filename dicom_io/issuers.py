"""Whose numbers PatientIDs are: how issuers (IssuerOfPatientID, PS3.3 C.7.1.1) are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from deeplesion_miner.errors import ConfigError


@dataclass(frozen=True)
class Issuers:
    """Which issuers mean the same: each itself alone, unless a site knows better."""

    compared: bool = True
    """False takes one PatientID of two issuers for one person, whatever they say."""
    alike: tuple[frozenset[str], ...] = ()
    """Groups of issuers that mean the same."""

    @classmethod
    def parse(cls, text: str, *, compared: bool = True) -> Self:
        """Groups written ``A = B; C = D = E``; '' for none. Raises `ConfigError`.

        An issuer stands in one group only: whoever wrote two has not seen that they would become one.
        """
        groups: list[frozenset[str]] = []
        for part in text.split(";") if text.strip() else ():
            names = [name.strip() for name in part.split("=")]
            if len(names) < 2 or not all(names) or len(set(names)) < len(names):
                raise ConfigError(f"[send] same_issuers: {part.strip()!r}: expected issuers that mean the same, A = B")
            twice = sorted(set(names) & frozenset().union(*groups))
            if twice:
                raise ConfigError(
                    f"[send] same_issuers names {twice[0]!r} in two groups; write A = B = C if all are one"
                )
            groups.append(frozenset(names))
        return cls(compared, tuple(groups))

    def key(self, issuer: str) -> str:
        """The same text for issuers that mean the same; '' for none, and where issuers are not compared."""
        plain = issuer.strip(" \0")
        if not self.compared:
            return ""
        return next((min(group) for group in self.alike if plain in group), plain)


STRICT = Issuers()
"""Each issuer means itself."""
