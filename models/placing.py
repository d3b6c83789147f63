"""Heights in the body for a dataset's marks: z of Normalized_lesion_location, with what speaks against it."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deeplesion_miner.errors import ConfigError
from models.body_part.placement import Finding, Placement
from models.body_part.regressor import BodyPartRegressor
from models.marks import KeySlice
from models.reading.folder import DatasetFolder
from models.training import registry
from models.training.environment import pick_device
from models.training.model_folder import ModelFolder

COLUMNS = ("mark_id", "file_name", "location_z", "findings", "model_id")


@dataclass(frozen=True, eq=False)
class PlacedRange:
    """One range of slices of a dataset, placed as one volume."""

    series: str
    slices: tuple[int, int]
    """First and last slice number."""
    key_slices: tuple[KeySlice, ...]
    placement: Placement
    z_of_key: tuple[float, ...]
    """Of each key slice; NaN where no slice of the range shows a body."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What speaks against it."""
        return self.placement.findings


def load_regressor(path: Path, device: str = "auto") -> BodyPartRegressor:
    """The body-part model of a folder. ConfigError for a folder that holds none."""
    model = ModelFolder.load(path)
    if model.recipe.kind != "body-part":
        raise ConfigError(
            f"{path}: a model of kind {model.recipe.kind!r} does not place; train one: --recipe body-part"
        )
    regressor: BodyPartRegressor = registry.user(model, str(pick_device(device)))
    return regressor


def place_dataset(regressor: BodyPartRegressor, folder: DatasetFolder) -> Iterator[PlacedRange]:
    """Each range of slices that holds key slices, once, sorted by series.

    Where the slice interval is unknown each key slice is placed alone.
    """
    ranges: dict[tuple[str, tuple[int, int], str], list[KeySlice]] = {}
    for key_slice in folder.key_slices:
        alone = key_slice.file_name if math.isnan(key_slice.slice_interval_mm) else ""
        ranges.setdefault((key_slice.series, key_slice.slice_range, alone), []).append(key_slice)
    for (series, slices, _), key_slices in sorted(ranges.items()):
        volume, _ = folder.volume(key_slices[0], math.inf)
        placement = regressor.place(volume)
        at = {name: index for index, name in enumerate(volume.images)}
        heights = tuple(float(placement.normalized_z[at[one.file_name]]) for one in key_slices)
        yield PlacedRange(series, slices, tuple(key_slices), placement, heights)


def write_heights(path: Path, placed: Sequence[PlacedRange], model_id: str) -> int:
    """Writes one row a mark (CSV) and says how many; the file appears whole or not at all.

    `location_z` is empty where there is no body, `findings` are codes joined by ';'.
    """
    rows = [
        (
            mark.mark_id,
            key_slice.file_name,
            "" if math.isnan(z) else f"{z:.6g}",
            ";".join(one.findings),
            model_id,
        )
        for one in placed
        for key_slice, z in zip(one.key_slices, one.z_of_key, strict=True)
        for mark in key_slice.marks
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.writing")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    partial.replace(path)
    return len(rows)
