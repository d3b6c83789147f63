"""Decoded slices kept for another use: the last used ones in memory, all of them on disk where wanted.

A PNG of a CT slice takes about 5 ms to decode, its blosc2 copy 0.3 ms, one in memory nothing. What is kept is a copy:
a cache may be deleted at any time, and a damaged entry is made again.
"""

from __future__ import annotations

import os
import struct
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplesion_miner.errors import ConfigError, MinerError

MEMORY_BYTES = 512 * 1024**2
HEAD = struct.Struct("<4sIII")
"""Signature, rows, columns, CRC-32 of the compressed bytes."""
SIGNATURE = b"HU1\n"

Decode = Callable[[Path], NDArray[np.int16]]


class SliceCache:
    """Slices by name. It belongs to one dataset: names are those of its pictures."""

    def __init__(self, memory_bytes: int = MEMORY_BYTES, disk: Path | None = None) -> None:
        """`memory_bytes` bounds what is kept in memory (0: nothing); `disk` is a folder for blosc2 copies.

        ConfigError where `disk` is asked for and blosc2 is not installed, or the folder cannot be made.
        """
        self._memory: OrderedDict[str, NDArray[np.int16]] = OrderedDict()
        self._held = 0
        self._limit = memory_bytes
        self._lock = threading.Lock()
        self._disk = disk
        if disk is not None:
            _blosc2()
            try:
                disk.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigError(f"cache folder {disk}: cannot be made ({error}); name another one") from error

    def __reduce__(self) -> tuple[type[SliceCache], tuple[int, Path | None]]:
        # another process starts with nothing in memory
        return SliceCache, (self._limit, self._disk)

    def get(self, name: str, picture: Path, decode: Decode) -> NDArray[np.int16]:
        """(rows, columns) of a slice, not writeable; `decode` reads the picture where no copy is kept."""
        with self._lock:
            if name in self._memory:
                self._memory.move_to_end(name)
                return self._memory[name]
        hu = decode(picture) if self._disk is None else self._from_disk(self._disk / name, picture, decode)
        hu.setflags(write=False)
        with self._lock:
            self._remember(name, hu)
        return hu

    def _remember(self, name: str, hu: NDArray[np.int16]) -> None:
        if hu.nbytes > self._limit or name in self._memory:
            return
        self._memory[name] = hu
        self._held += hu.nbytes
        while self._held > self._limit:
            _, dropped = self._memory.popitem(last=False)
            self._held -= dropped.nbytes

    def _from_disk(self, place: Path, picture: Path, decode: Decode) -> NDArray[np.int16]:
        if not picture.exists():
            return decode(picture)
        # a picture that was replaced has another size
        path = place.with_suffix(f".{picture.stat().st_size}.blosc2")
        kept = _unpacked(path.read_bytes()) if path.exists() else None
        if kept is not None:
            return kept
        hu = decode(picture)
        # whoever reads beside us sees the whole file or none
        unfinished = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_bytes(_packed(hu))
            unfinished.replace(path)
        except OSError as error:
            raise MinerError(f"cache {path}: cannot be written ({error}); free space or train without it") from error
        return hu


def _packed(hu: NDArray[np.int16]) -> bytes:
    blosc2 = _blosc2()
    content: bytes = blosc2.compress2(
        np.ascontiguousarray(hu),
        codec=blosc2.Codec.LZ4,
        clevel=5,
        filters=[blosc2.Filter.BITSHUFFLE],
        typesize=hu.itemsize,
        nthreads=1,
    )
    return HEAD.pack(SIGNATURE, *hu.shape, zlib.crc32(content)) + content


def _unpacked(content: bytes) -> NDArray[np.int16] | None:
    """None for bytes that are not whole."""
    if len(content) < HEAD.size:
        return None
    signature, rows, columns, checksum = HEAD.unpack_from(content)
    packed = memoryview(content)[HEAD.size :]
    if signature != SIGNATURE or zlib.crc32(packed) != checksum:
        return None
    return np.frombuffer(_blosc2().decompress2(packed, nthreads=1), np.int16).reshape(rows, columns)


def _blosc2() -> Any:
    try:
        import blosc2
    except ImportError as error:
        raise ConfigError(
            "a cache on disk needs blosc2: pip install 'deeplesion-miner[models-more]', or train without a cache folder"
        ) from error
    return blosc2
