"""Which bookmarks are lymph nodes: those whose coded finding or finding site says so; a label is no code."""

from __future__ import annotations

import schemas
from deeplesion_miner.types import Bookmark, Code


def is_lymph_node(bookmark: Bookmark) -> bool:
    """Whether a code of `schemas/lymph_nodes.toml` says so; False where nothing is known."""
    return any(map(_is_of_node, (bookmark.finding, bookmark.finding_site)))


def _is_of_node(code: Code | None) -> bool:
    if code is None:
        return False
    scheme = schemas.load("codes")["scheme_alias"].get(code.scheme, code.scheme)
    return code.value in schemas.load("lymph_nodes")["lymph_node"].get(scheme, ())
