"""Train, validation and test by patient: 70, 15 and 15 percent, stable when data grow."""

from __future__ import annotations

SHARES_PERCENT = (("train", 70), ("val", 15), ("test", 15))
BYTES_USED = 8


def split_of(digest: bytes | str) -> str:
    """'train', 'val' or 'test' for a patient's keyed hash (bytes or their hex text, at least 8 bytes).

    Depends on nothing but the hash, so that no patient ever changes sides. Raises ValueError for a shorter hash.
    """
    raw = bytes.fromhex(digest) if isinstance(digest, str) else digest
    if len(raw) < BYTES_USED:
        raise ValueError(f"a split needs a hash of at least {BYTES_USED} bytes, not {len(raw)}")
    scaled = int.from_bytes(raw[:BYTES_USED], "big") * 100
    passed = 0
    for name, percent in SHARES_PERCENT[:-1]:
        passed += percent
        if scaled < passed << (8 * BYTES_USED):
            return name
    return SHARES_PERCENT[-1][0]
