"""Which organ a bookmark lies in, by the code of its finding site; a label is no code."""

from __future__ import annotations

import schemas
from deeplesion_miner.types import Bookmark


def organ_of(bookmark: Bookmark) -> str:
    """A word of `schemas/organs.toml`, else the code itself; '' where no code says it, or only a region.

    Lymph nodes are one organ, which `deeplesion_miner.lymph_nodes` knows.
    """
    code = bookmark.finding_site
    if code is None or not code.value:
        return ""
    facts = schemas.load("organs")
    scheme = schemas.load("codes")["scheme_alias"].get(code.scheme, code.scheme)
    if code.value in facts["region"].get(scheme, ()) or scheme in schemas.load("emit")["free_text"]["schemes"]:
        return ""
    known = (organ for organ, codes in facts["organ"].items() if code.value in codes.get(scheme, ()))
    return next(known, f"{scheme} {code.value}")
