"""Studies of an archive, or of files, as volumes that models take; what is left out is told with its reason."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deeplesion_miner.volumes import AxialStack, LeftOut, axial_stacks

if TYPE_CHECKING:
    from deeplesion_miner.ports import Archive
    from deeplesion_miner.rules import Rules
    from deeplesion_miner.studies import StudyRef
    from deeplesion_miner.types import ImageRef
    from models.volume import Volume


@dataclass(frozen=True, eq=False)
class StudyVolume:
    """One stack of a study, ready for a model; `refs[i]` is the image that the volume calls `images[i]`."""

    stack: AxialStack
    volume: Volume
    refs: tuple[ImageRef, ...]


@dataclass(frozen=True, eq=False)
class SeriesVolumes:
    """What one series of a study gives."""

    study: StudyRef
    name: str
    """The same as long as the series holds the same objects."""
    volumes: tuple[StudyVolume, ...]
    left_out: tuple[LeftOut, ...]

    def losses(self) -> dict[str, int]:
        """Images left out by reason, the most frequent first."""
        return dict(Counter(one.reason for one in self.left_out).most_common())


def study_volumes(
    archive: Archive, studies: Iterable[StudyRef], rules: Rules, is_known: Callable[[str], bool] = lambda name: False
) -> Iterator[SeriesVolumes]:
    """The volumes of each study, series by series, as a study may be larger than the memory.

    Fetches CT series only, and of those whose name is known nothing. Raises ArchiveError where the archive is away.
    """
    for study in studies:
        for series in archive.listing(study).series:
            # A series whose modality is not told may be CT: its headers decide.
            if series.modality in ("", "CT"):
                yield _of_series(archive, study, series.series_instance_uid, rules, is_known)


def _of_series(
    archive: Archive, study: StudyRef, series_uid: str, rules: Rules, is_known: Callable[[str], bool]
) -> SeriesVolumes:
    volumes: list[StudyVolume] = []
    uid = study.study_instance_uid
    listed = [one.sop_instance_uid for one in archive.instances(uid, series_uid)]
    digest = hashlib.sha256("\n".join(sorted(listed)).encode()).hexdigest()
    series_name = f"{series_uid} {digest[:16]}"
    if is_known(series_name):
        return SeriesVolumes(study, series_name, (), ())
    objects = archive.headers(uid, series_uid, listed)
    left_out = [LeftOut(name, "image_missing") for name in listed if name not in objects]
    stacks, unfit = axial_stacks(objects, rules)
    left_out += unfit
    for stack in stacks:
        read, undecoded = _decoded(archive, stack)
        left_out += undecoded
        if read is not None:
            volumes.append(read)
    return SeriesVolumes(study, series_name, tuple(volumes), tuple(left_out))


def _decoded(archive: Archive, stack: AxialStack) -> tuple[StudyVolume | None, list[LeftOut]]:
    """The stack's pixels; slices that cannot be decoded are holes, a stack without any is None."""
    import numpy as np

    from deeplesion_miner.types import Slice
    from models.volume import Volume

    # filled in place: a list of slices beside their stack would take the memory twice
    hu = np.empty((len(stack.refs), stack.plane.rows, stack.plane.columns), np.int16)
    kept: list[int] = []
    left_out = []
    for index, (ref, answer) in enumerate(archive.slices(stack.refs)):
        if isinstance(answer, Slice):
            hu[len(kept)] = answer.hu
            kept.append(index)
        else:
            left_out.append(LeftOut(ref, answer.why, answer.facts))
    if not kept:
        return None, left_out
    refs = tuple(stack.refs[index] for index in kept)
    volume = Volume(
        hu=hu[: len(kept)],
        position_mm=np.array([stack.positions_mm[index] for index in kept], np.float64),
        row_spacing_mm=stack.plane.row_spacing_mm,
        col_spacing_mm=stack.plane.col_spacing_mm,
        images=tuple(_name(ref, stack) for ref in refs),
    )
    return StudyVolume(stack, volume, refs), left_out


def _name(ref: ImageRef, stack: AxialStack) -> str:
    multi_frame = stack.headers[0].number_of_frames > 1
    return f"{ref.sop_instance_uid}#{ref.frame_number}" if multi_frame else ref.sop_instance_uid
