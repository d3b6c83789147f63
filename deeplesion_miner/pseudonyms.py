"""Keyed pseudonyms: one key makes all of them, so no table has to be kept to make them again.

HMAC-SHA-256 (RFC 2104) over the kind of identifier and its text; without the key nothing can be traced
back or linked to another dataset made with another key.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import date, timedelta

from deeplesion_miner.errors import ConfigError

LEAST_KEY_BYTES = 16
MOST_SHIFT_DAYS = 3650
LEAST_SHIFT_DAYS = 30


class Pseudonyms:
    """Maps identifiers of the archive to public ones under a secret key."""

    def __init__(self, key: bytes) -> None:
        if len(key) < LEAST_KEY_BYTES:
            raise ConfigError(
                f"the pseudonym key has {len(key)} bytes; give at least {LEAST_KEY_BYTES} random ones "
                "(for instance: head -c 32 /dev/urandom | xxd -p -c 64 > key)"
            )
        self._key = key

    def _digest(self, kind: str, parts: tuple[str, ...]) -> bytes:
        # Lengths are part of the text: ('ab', 'c') and ('a', 'bc') must differ.
        text = "\0".join([kind, *(f"{len(part)}:{part}" for part in parts)])
        return hmac.new(self._key, text.encode("utf-8"), hashlib.sha256).digest()

    def token(self, kind: str, *parts: str) -> str:
        """16 hexadecimal digits for an identifier of `kind` ('patient', 'study', 'series', 'bookmark' ...)."""
        return self._digest(kind, parts)[:8].hex()

    def patient(self, patient_id: str, issuer_of_patient_id: str = "") -> str:
        """Public identity of a patient. DICOM pads with spaces, so these do not count."""
        return self.token("patient", patient_id.strip(), issuer_of_patient_id.strip())

    def uid(self, uid: str) -> str:
        """A UID below 2.25 (PS3.5 B.2) for a UID of the archive; at most 44 characters."""
        return f"2.25.{int.from_bytes(self._digest('uid', (uid,))[:16], 'big')}"

    def fraction_digest(self, kind: str, *parts: str) -> bytes:
        """32 uniformly distributed bytes, for decisions such as the split that must be stable when data grow."""
        return self._digest(f"fraction {kind}", parts)

    def shifted_date(self, yyyymmdd: str, patient: str) -> str:
        """YYYY-MM-DD, moved back by a number of days that is one for all dates of a patient; '' if no date.

        `patient` is the public identity; intervals between a patient's dates are kept
        (PS3.15 E.3.6, Retain Longitudinal Temporal Information With Modified Dates).
        """
        digits = yyyymmdd.strip().replace(".", "")
        if len(digits) != 8 or not digits.isdecimal():
            return ""
        try:
            day = date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
        except ValueError:
            return ""
        span = MOST_SHIFT_DAYS - LEAST_SHIFT_DAYS
        shift = LEAST_SHIFT_DAYS + int.from_bytes(self._digest("shift", (patient,))[:4], "big") % span
        earliest = date.min + timedelta(days=shift)
        return (day - timedelta(days=shift)).isoformat() if day >= earliest else ""
