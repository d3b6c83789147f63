"""Emits results of studies in an archive: asks for the headers of their images and for nothing else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from deeplesion_miner.results import ReportedLesion, Result
from deeplesion_miner.types import ImageRef
from dicom_io.archive import TransportArchive
from dicom_io.emit.earlier import Following, earlier_reports, follow
from dicom_io.emit.emitting import Emission, EmitSettings, LeftOut, emit
from dicom_io.emit.finite import all_finite
from dicom_io.emit.identity import CORRECTING
from dicom_io.emit.recist_sr import written_with
from dicom_io.emit.source import SourceImages


def emit_from(
    archive: TransportArchive,
    result: Result,
    kinds: Sequence[str],
    settings: EmitSettings | None = None,
    waiting: Iterable[Path] = (),
) -> Emission:
    """The objects of one result; lesions whose images the archive does not deliver are left out as image_missing.

    What an algorithm says follows its earlier reports in the study: those of the archive, and the files of reports
    that are on their way there (`waiting`). See `dicom_io.emit.earlier`.
    Raises `ArchiveError` where the archive is away, `ConfigError` where the images are broken or of several patients.
    """
    settings = settings or EmitSettings()
    images = sorted({image for lesion in result.lesions for image in images_of(lesion)})
    here = set(_bring(archive, images))
    lost = [lesion for lesion in result.lesions if not here.issuperset(_uids(images_of(lesion)))]
    left_out = tuple(LeftOut(one.key, one.label, kind, "image_missing") for kind in kinds for one in lost)
    kept = tuple(lesion for lesion in result.lesions if lesion not in lost)
    if not kept:
        return Emission((), left_out)
    paths = [path for uid in sorted(here) if (path := archive.file(uid)) is not None]
    if not _follows(result, kinds):
        following = Following(replace(result, lesions=kept))
    else:
        earlier = earlier_reports((*archive.report_files(result.study_instance_uid), *waiting))
        # An archive that has the whole report is not given a part of it, which would come after the whole.
        if lost and follow(all_finite(result), earlier, written_with(settings)).is_told:
            kinds = [kind for kind in kinds if kind != CORRECTING]
        following = follow(all_finite(replace(result, lesions=kept)), earlier, written_with(settings))
    # Those that are not finite are still to be named as left out.
    told = replace(following.result, lesions=kept)
    emission = emit(told, SourceImages.read(paths), kinds, settings)
    corrects = following.corrects if CORRECTING in kinds else ()
    return Emission(emission.objects, left_out + emission.left_out, corrects, following.corrected_by)


def _follows(result: Result, kinds: Sequence[str]) -> bool:
    """Whether earlier reports matter: a person's measurements come with the reports that they were taken from."""
    return CORRECTING in kinds and result.author.is_algorithm and not result.predecessors


def images_of(lesion: ReportedLesion) -> tuple[ImageRef, ...]:
    """The key image and those of the masks, each once."""
    return tuple(dict.fromkeys((lesion.image, *(image for image, _ in lesion.masks))))


def _uids(images: Sequence[ImageRef]) -> set[str]:
    return {image.sop_instance_uid for image in images}


def _bring(archive: TransportArchive, images: Sequence[ImageRef]) -> list[str]:
    """Brings images into reach, series by series, and says which of them were delivered."""
    series: dict[tuple[str, str], list[str]] = defaultdict(list)
    for image in images:
        series[image.study_instance_uid, image.series_instance_uid].append(image.sop_instance_uid)
    delivered: list[str] = []
    for (study_uid, series_uid), uids in sorted(series.items()):
        delivered.extend(archive.headers(study_uid, series_uid, sorted(set(uids))))
    return delivered
