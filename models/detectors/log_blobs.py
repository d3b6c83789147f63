"""Blobs by the Laplacian of Gaussians over scales (Lindeberg 1998): learns nothing, the floor of every detector."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from models.boxes import nms
from models.detectors.inputs import WINDOWS_HU
from models.detectors.port import Found
from models.volume import Volume

RADII_MM = (3.5, 5.5, 8.5, 13.0, 20.0)
"""Of the discs that the scales answer to most; DeepLesion's boxes are mostly 10 to 30 mm wide."""
FULL_RESPONSE = 2 / math.e
"""Of a disc as bright as the whole window at its own scale: sigma^2 times the Laplacian where r = sqrt(2) sigma."""
SCORE_FLOOR = 0.01
LIMIT = 100
OVERLAP = 0.3


@dataclass(frozen=True)
class LogBlobs:
    """Bright and dark blobs of the key slice alone, boxes without RECIST axes and masks (`port.Detector`)."""

    model_id: str = "log-blobs"
    radii_mm: tuple[float, ...] = RADII_MM
    limit: int = LIMIT
    """Most blobs of a slice."""

    def detect(self, volume: Volume, indices: Sequence[int]) -> tuple[Found, ...]:
        """Blobs of each slice; the score is the response as share of that of a disc as bright as the whole window."""
        spacing_mm = (volume.row_spacing_mm, volume.col_spacing_mm)
        return tuple(self._detect_one(volume.hu[index], spacing_mm) for index in indices)

    def _detect_one(self, hu: NDArray[np.int16], spacing_mm: tuple[float, float]) -> Found:
        found = [
            self._peaks(sign * responses, spacing_mm)
            for low, high in WINDOWS_HU
            for responses in [self._responses(np.clip((hu - np.float32(low)) / (high - low), 0, 1), spacing_mm)]
            for sign in (1, -1)
        ]
        boxes, scores = (np.concatenate(part) for part in zip(*found, strict=True))
        kept = nms(torch.from_numpy(boxes), torch.from_numpy(scores), OVERLAP, self.limit).numpy()
        return Found(boxes[kept], scores[kept], np.full((len(kept), 4, 2), np.nan))

    def _responses(self, image: NDArray[np.float32], spacing_mm: tuple[float, float]) -> NDArray[np.float32]:
        """(scales, rows, columns) positive where it is brighter than around, 1 at most for a disc of one scale."""
        planes = np.zeros((len(self.radii_mm), *image.shape), np.float32)
        for plane, radius_mm in zip(planes, self.radii_mm, strict=True):
            sigmas_px = [radius_mm / math.sqrt(2) / spacing for spacing in spacing_mm]
            # sigma^2 on each axis of its own: millimetres, whatever the pixels are
            for axis, sigma_px in enumerate(sigmas_px):
                order = [2 if axis == one else 0 for one in (0, 1)]
                plane -= ndimage.gaussian_filter(image, sigmas_px, order=order, mode="nearest") * sigma_px**2
            plane /= FULL_RESPONSE
        return planes

    def _peaks(
        self, responses: NDArray[np.float32], spacing_mm: tuple[float, float]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Boxes and scores of what is highest among its neighbours in place and scale."""
        highest = ndimage.maximum_filter(responses, size=3, mode="nearest")
        scale, row, column = np.nonzero((responses == highest) & (responses >= SCORE_FLOOR))
        scores = np.minimum(responses[scale, row, column], 1).astype(np.float64)
        radius_mm = np.array(self.radii_mm)[scale]
        half = np.stack([radius_mm / spacing_mm[1], radius_mm / spacing_mm[0]], axis=1)
        # ends of axes lie on the outermost pixels' centres, hence half a pixel less on each side than the disc
        half = np.maximum(half - 0.5, 0.5)
        centre = np.stack([column, row], axis=1)
        return np.concatenate([centre - half, centre + half], axis=1), scores
