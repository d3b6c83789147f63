"""Masks of a dataset's marks for training detectors: `reading.targets.MaskSource` by the walk on the key slice."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from deeplesion_miner.detection import PixelMask
from models.delineation.delineate import Delineator, delineate
from models.delineation.ellipse import ellipse_mask
from models.marks import KeySlice, Mark
from models.reading.folder import DatasetFolder
from models.volume import Volume

REMEMBERED = 16384
"""Masks that stay in memory: a few hundred bytes each."""


class DelineatedMasks:
    """Delineates a mark when it is first asked for."""

    def __init__(self, dataset: DatasetFolder, delineator: Delineator | None = None) -> None:
        self._dataset = dataset
        self._delineator = delineator
        self._remembered: OrderedDict[tuple[str, str], PixelMask] = OrderedDict()

    def mask(self, key_slice: KeySlice, mark: Mark) -> PixelMask | None:
        """The mark's mask on its image; None for a length without a short axis, or a mark off the image."""
        name = (key_slice.file_name, mark.mark_id)
        if name not in self._remembered:
            if mark.short_axis_mm is None or not _is_on_image(key_slice, mark):
                return None
            hu = self._dataset.hu(key_slice.file_name)[None]
            spacing = (key_slice.row_spacing_mm, key_slice.col_spacing_mm)
            volume = Volume(hu, np.zeros(1), *spacing, (key_slice.file_name,))
            self._remembered[name] = delineate(volume, 0, mark.ends_px, delineator=self._delineator).mask
            if len(self._remembered) > REMEMBERED:
                self._remembered.popitem(last=False)
        return self._remembered[name]


def _is_on_image(key_slice: KeySlice, mark: Mark) -> bool:
    return bool(ellipse_mask(mark.ends_px, key_slice.rows, key_slice.columns).any())
