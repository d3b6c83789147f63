"""Keeps the C library from holding memory for threads that have ended.

glibc gives threads arenas of their own, up to eight a core, and each keeps what its largest moment took. A node makes
two threads an association, so its memory would creep up for hours until all arenas have had their large moment.
"""

from __future__ import annotations

import ctypes

_M_ARENA_MAX, _M_MMAP_THRESHOLD = -8, -3
"""malloc.h of glibc."""
ARENAS = 2
MMAP_BYTES = 65_536
"""Larger blocks (PDUs) are given back to the system when they are freed; setting it ends glibc's own raising of it."""


def limit_arenas() -> bool:
    """To be called before threads are made; False where the C library is another one, and nothing changes."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        return False
    return bool(library.mallopt(_M_ARENA_MAX, ARENAS)) and bool(library.mallopt(_M_MMAP_THRESHOLD, MMAP_BYTES))
