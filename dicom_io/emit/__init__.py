"""Results as DICOM objects: reports that viewers edit, masks, contours, presentation states, key objects.

`emit` is the only door: it takes a `Result` and the headers of its images and gives whole PS3.10 files, so that no
data set leaves the room.
"""

from __future__ import annotations

from dicom_io.emit.emitting import KINDS, Emission, EmitSettings, EmittedObject, LeftOut, emit

__all__ = ["KINDS", "Emission", "EmitSettings", "EmittedObject", "LeftOut", "emit"]
