"""Measures the texture of real lesions: the numbers of models/synthesis/texture.toml.

python -m tests.experiments.textures [--data FOLDER]
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SMOOTHING_MM = 2.0
CORE = 0.75
"""Share of both axes of a marked lesion that is surely inside it."""
ERODED_PX = 3
SOFT_HU = (-50, 200)

Floats = NDArray[np.float64]
Plane = tuple[Floats, NDArray[np.bool_], tuple[float, float]]
"""HU, what is surely lesion, and the distances of rows and columns in mm."""


def sarcomas(folder: Path) -> Iterator[Plane]:
    """The slice with the largest section of each tumour; its mask eroded, without fat and bone."""
    for path in sorted(folder.glob("*_image.nii.gz")):
        image = nibabel.load(path)
        mask = np.asarray(nibabel.load(path.with_name(path.name.replace("image", "mask"))).dataobj) > 0
        key = int(mask.sum(axis=(0, 1)).argmax())
        hu = np.asarray(image.dataobj)[:, :, key].astype(float)
        inner = ndimage.binary_erosion(mask[:, :, key], iterations=ERODED_PX)
        inner &= (ndimage.gaussian_filter(hu, 1.0) > SOFT_HU[0]) & (hu < SOFT_HU[1])
        yield hu, inner, tuple(float(size) for size in image.header.get_zooms()[:2])


def marked_lesions(folder: Path) -> Iterator[Plane]:
    """Every marked lesion of the key slices of DeepLesion that lie here; the core of its ellipse."""
    with (folder / "DL_info_png_visible.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            series, _, name = row["File_name"].rpartition("_")
            stored = cv2.imread(str(folder / "Images_png" / series / name), cv2.IMREAD_UNCHANGED)
            if stored is None:
                continue
            ends = np.array([float(text) for text in row["Measurement_coordinates"].split(",")]).reshape(4, 2) - 1
            long_axis, short_axis = ends[1] - ends[0], ends[3] - ends[2]
            along = long_axis / np.linalg.norm(long_axis)
            rows, columns = np.mgrid[: stored.shape[0], : stored.shape[1]]
            x, y = columns - ends[:, 0].mean(), rows - ends[:, 1].mean()
            one = (x * along[0] + y * along[1]) / (np.linalg.norm(long_axis) / 2 * CORE)
            other = (y * along[0] - x * along[1]) / (np.linalg.norm(short_axis) / 2 * CORE)
            spacing = float(row["Spacing_mm_px_"].split(",")[0])
            yield stored.astype(float) - 32768, one**2 + other**2 < 1, (spacing, spacing)


def texture(plane: Plane) -> tuple[float, float]:
    """Standard deviation (HU) and correlation length (mm) of a lesion after a blur of 2 mm within it."""
    hu, inner, spacing = plane
    blur = SMOOTHING_MM / np.array(spacing)
    weight = ndimage.gaussian_filter(inner.astype(float), blur)
    smooth = ndimage.gaussian_filter(np.where(inner, hu, 0), blur) / np.maximum(weight, 1e-6)
    rest = np.where(inner, smooth - smooth[inner].mean(), 0)
    size = [2 * length for length in hu.shape]
    pairs = np.fft.irfft2(np.abs(np.fft.rfft2(inner.astype(float), size)) ** 2, size)
    correlation = np.fft.irfft2(np.abs(np.fft.rfft2(rest, size)) ** 2, size) / np.maximum(pairs, 1)
    lengths = [
        _falls_at(line / line[0]) * mm for line, mm in zip((correlation[:, 0], correlation[0]), spacing, strict=True)
    ]
    return float(smooth[inner].std()), float(np.mean(lengths))


def _falls_at(line: Floats) -> float:
    """Where a correlation first falls below 1 / e, in samples."""
    after = int(np.flatnonzero(line < np.exp(-1))[0])
    return float(after - 1 + (line[after - 1] - np.exp(-1)) / (line[after - 1] - line[after]))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure the texture of real lesions")
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("DLM_REAL_DATA"), required=not os.environ.get("DLM_REAL_DATA")
    )
    data = Path(parser.parse_args().data)
    for name, planes in (
        ("sarcoma", sarcomas(data / "sts")),
        ("deeplesion", marked_lesions(data / "deeplesion" / "png")),
    ):
        found = np.array([texture(plane) for plane in planes if plane[1].sum() >= 20])
        for column, what in enumerate(("sd_hu", "correlation_mm")):
            numbers = ", ".join(f"{value:.1f}" for value in np.percentile(found[:, column], (0, 25, 50, 75, 100)))
            print(f"{name} {what}: lowest, quartiles, highest {numbers} (n = {len(found)})")


if __name__ == "__main__":
    main()
