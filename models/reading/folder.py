"""A dataset folder as models read it: ours, or NIH DeepLesion's own."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray

import schemas
from deeplesion_miner.errors import ConfigError, MinerError
from models.marks import Annotation, KeySlice
from models.reading import deeplesion_csv, mined
from models.reading.cache import MEMORY_BYTES, SliceCache
from models.reading.contents import IMAGES, Contents, SeriesSlices, SliceFile, file_of, refuse_shared_patients
from models.volume import Volume

NO_SLICES = SeriesSlices(np.empty(0, np.int64), np.empty(0))


class DatasetFolder:
    """Marked key slices with the slices around them. Facts are read when it is opened, pixels when asked for."""

    path: Path
    digest: str
    """Names the content: the digest of manifest.json, or SHA-256 of the tables where there is none.

    Of a folder in which pictures of marked slices are absent another one: it is another dataset to learn from.
    """
    key_slices: tuple[KeySlice, ...]
    """Those whose picture is there, sorted by file name."""
    missing: tuple[str, ...]
    """File names of marked slices whose picture is absent, sorted."""
    missing_marks: int
    """Marks on those slices."""

    def __init__(self, path: Path, annotation: Annotation, table: str | None, memory_bytes: int, cache: Path | None):
        """Use `open`."""
        self.path = path
        self._listed: dict[str, frozenset[int]] = {}
        if table is None and (path / mined.LESIONS).exists():
            contents = mined.read(path, annotation, self.has)
        else:
            contents = deeplesion_csv.read(_table(path, table or deeplesion_csv.DL_INFO), annotation, self.has)
        refuse_shared_patients(str(path), contents.key_slices)
        self.digest, self.key_slices = _digest(contents), contents.key_slices
        self.missing, self.missing_marks = contents.missing, contents.missing_marks
        self._series = contents.series
        self._cache = SliceCache(memory_bytes, None if cache is None else cache / contents.digest)

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        annotation: Annotation = Annotation.PARTIAL,
        table: str | None = None,
        memory_bytes: int = MEMORY_BYTES,
        cache: Path | None = None,
    ) -> DatasetFolder:
        """The dataset in a folder.

        Where lesions.parquet lies there it is read as ours, else as NIH DeepLesion's; `table` names another
        DL_info*.csv in it. `annotation` says how completely its key slices were marked: the folder does not know.
        Decoded slices are kept in memory up to `memory_bytes` (by process) and, where a folder `cache` is named, as
        blosc2 copies in it.
        ConfigError for a folder that is none, a table that cannot be read, and a patient in two splits.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise ConfigError(f"{folder}: no such folder; name a dataset that was mined, or NIH DeepLesion's folder")
        return cls(folder, annotation, table, memory_bytes, cache)

    def has(self, file_name: str) -> bool:
        """Whether a picture, '000001_01_01/103.png', exists."""
        series, _, name = file_name.rpartition("/")
        stem = name.removesuffix(".png")
        return stem.isdecimal() and file_of(series, int(stem)) == file_name and int(stem) in self._numbers(series)

    def hu(self, file_name: str) -> NDArray[np.int16]:
        """(rows, columns) CT numbers of a picture, not writeable.

        MinerError for a file that is absent or no whole 16-bit grayscale PNG.
        """
        return self._cache.get(file_name, self.path / IMAGES / file_name, _decoded)

    def slices_around(self, key_slice: KeySlice) -> tuple[SliceFile, ...]:
        """All pictures that are there within the key slice's range, from head to feet, itself among them.

        Positions are those of slices.parquet; in NIH's folder, which has none, slice number times interval, and
        the key slice alone where the interval is unknown. MinerError where the key slice is none of them.
        """
        first, last = key_slice.slice_range
        there = self._numbers(key_slice.series)
        if self._series is not None:
            listed = self._series.get(key_slice.series, NO_SLICES)
            within = slice(*np.searchsorted(listed.slice_numbers, (first, last + 1)).tolist())
            pairs = zip(listed.slice_numbers[within].tolist(), listed.position_mm[within].tolist(), strict=True)
        elif math.isnan(key_slice.slice_interval_mm):
            pairs = zip((key_slice.slice_number,), (0.0,), strict=True)
        else:
            numbers = [number for number in sorted(there) if first <= number <= last]
            pairs = zip(numbers, (number * key_slice.slice_interval_mm for number in numbers), strict=True)
        found = tuple(
            SliceFile(file_of(key_slice.series, number), number, position)
            for number, position in pairs
            if number in there
        )
        if all(one.file_name != key_slice.file_name for one in found):
            raise MinerError(
                f"{self.path}: key slice {key_slice.file_name} is not among slices {first} to {last} of its series; "
                "correct its slice range, or mine the dataset again"
            )
        return found

    def volume(self, key_slice: KeySlice, reach_mm: float) -> tuple[Volume, int]:
        """The slices within `reach_mm` of the key slice, and the index of the key slice among them.

        One more on each side where a slice does not lie at the reach exactly, so that `Volume.context` can
        interpolate up to it; math.inf gives the key slice's whole range. MinerError for a picture that is broken or
        of another size.
        """
        around = self.slices_around(key_slice)
        positions = np.array([one.position_mm for one in around])
        key = next(index for index, one in enumerate(around) if one.file_name == key_slice.file_name)
        first = max(int(np.searchsorted(positions, positions[key] - reach_mm, "right")) - 1, 0)
        last = min(int(np.searchsorted(positions, positions[key] + reach_mm, "left")), len(around) - 1)
        chosen = around[first : last + 1]
        volume = Volume(
            hu=np.stack([self.checked_hu(key_slice, one.file_name) for one in chosen]),
            position_mm=positions[first : last + 1],
            row_spacing_mm=key_slice.row_spacing_mm,
            col_spacing_mm=key_slice.col_spacing_mm,
            images=tuple(one.file_name for one in chosen),
        )
        return volume, key - first

    def checked_hu(self, key_slice: KeySlice, file_name: str) -> NDArray[np.int16]:
        """As `hu`; MinerError where the picture has not the size that the tables say."""
        hu = self.hu(file_name)
        if hu.shape != (key_slice.rows, key_slice.columns):
            raise MinerError(
                f"{self.path / IMAGES / file_name}: {hu.shape[0]} rows x {hu.shape[1]} columns, the tables say "
                f"{key_slice.rows} x {key_slice.columns}; restore it from a copy or write the dataset again"
            )
        return hu

    def _numbers(self, series: str) -> frozenset[int]:
        """Slice numbers of the pictures of a series that are there."""
        known = self._listed.get(series)
        if known is None:
            folder = self.path / IMAGES / series
            stems = [one.stem for one in folder.glob("*.png")] if folder.is_dir() else []
            numbers = {int(stem): stem for stem in stems if stem.isdecimal()}
            known = self._listed[series] = frozenset(
                number for number, stem in numbers.items() if file_of(series, number) == f"{series}/{stem}.png"
            )
        return known


def _digest(contents: Contents) -> str:
    if not contents.missing:
        return contents.digest
    return hashlib.sha256("\n".join([contents.digest, *contents.missing]).encode()).hexdigest()


def _table(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        others = ", ".join(sorted(one.name for one in folder.glob("DL_info*.csv")))
        advice = f"name one of {others} as its table (--table)" if others else "name a folder that holds one of them"
        raise ConfigError(f"{folder}: holds neither {mined.LESIONS} nor {name}; {advice}")
    return path


def _decoded(path: Path) -> NDArray[np.int16]:
    try:
        stored = imagecodecs.png_decode(path.read_bytes())
    except FileNotFoundError as error:
        raise MinerError(f"{path}: missing; restore it from a copy or write the dataset again") from error
    except (imagecodecs.PngError, ValueError, OSError) as error:
        raise MinerError(
            f"{path}: cannot be decoded ({error}); restore it from a copy or write the dataset again"
        ) from error
    if stored.dtype != np.uint16 or stored.ndim != 2:
        raise MinerError(f"{path}: {stored.dtype} {stored.shape} where a 16-bit grayscale PNG belongs; restore it")
    signed = stored.astype(np.int32) - int(schemas.load("dataset")["png_offset_hu"])
    return signed.astype(np.int16)
