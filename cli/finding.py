"""What `predict` and `demo` have in common: a model made ready, the slices it looks at, what it finds, pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cli import wiring
from cli.config import Settings
from cli.dataset_options import open_dataset, splits_text
from cli.funnel import HARMLESS
from cli.output import notice, plural
from cli.progress import counted, counting_files
from deeplesion_miner.errors import ArchiveError, MinerError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cli.study_volumes import StudyVolume
    from deeplesion_miner.detection import Detection
    from deeplesion_miner.types import StudyQuery
    from models.delineation.delineate import Delineator
    from models.detectors.port import Detector
    from models.prediction import PredictionSettings
    from models.volume import Volume

LONGEST_PICTURES = 24
"""Pictures that are drawn, of the surest."""


@dataclass(frozen=True, eq=False)
class Predictor:
    """A model ready to look."""

    detector: Detector
    delineator: Delineator | None
    settings: PredictionSettings
    learnt_from: str = ""
    """Digest of the dataset that the detector was trained on."""
    learnt_splits: tuple[str, ...] = ()
    """Its splits that were trained on."""


@dataclass(eq=False)
class Finding:
    """What was found, and on how much."""

    nothing: str
    """What to say where there was nothing to look at."""
    detections: list[Detection] = field(default_factory=list)
    pixels: dict[int, NDArray[np.int16]] = field(default_factory=dict)
    """Key slice of the surest detections by position in `detections`, for pictures."""
    looked_at: int = 0
    """Slices."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Images that no model may look at, and files that cannot be read, by the code of the reason."""
    broken: frozenset[str] = frozenset()
    """Codes of reasons for which an image is broken, not merely unfit."""
    has_gaps: bool = False
    """Whether pictures of the dataset are absent or broken."""
    away: ArchiveError | None = None
    """Why the archive stopped answering before all was looked at."""

    @property
    def is_partial(self) -> bool:
        """Whether something that should have been looked at could not be."""
        return self.has_gaps or any(reason in self.broken for reason in self.left_out)

    def add(self, detections: tuple[Detection, ...], volume: Volume, names: Mapping[object, int]) -> None:
        """Adds the detections of a volume; `names` gives the slice of an image."""
        for detection in detections:
            # a copy: a view would keep the whole volume in memory
            self.pixels[len(self.detections)] = volume.hu[names[detection.image]].copy()
            self.detections.append(detection)
        surest = sorted(self.pixels, key=lambda one: -self.detections[one].score)[:LONGEST_PICTURES]
        self.pixels = {one: self.pixels[one] for one in surest}


def load(
    model: Path,
    *,
    least_score: float,
    most: int,
    masks: bool,
    delineator: Path | None,
    device: str,
    precision: str,
) -> Predictor:
    """The model of a folder made ready. ConfigError for a folder that holds none, or one of another kind."""
    from models.prediction import PredictionSettings, detector_of, load_delineator
    from models.training.model_folder import ModelFolder

    loaded = ModelFolder.load(model)
    return Predictor(
        detector_of(loaded, device, precision),
        None if delineator is None else load_delineator(delineator, device),
        PredictionSettings(least_score=least_score, most=most, masks=masks),
        loaded.dataset_digest,
        loaded.recipe.data.train_splits,
    )


def in_dataset(predictor: Predictor, folder: Path, splits: tuple[str, ...], table: str | None = None) -> Finding:
    """What is found on the key slices of a dataset."""
    from models.prediction import on_key_slices

    dataset = open_dataset(folder, table)
    chosen = [one for one in dataset.key_slices if not splits or one.split in splits]
    where = f" in {' or '.join(splits)}; there are {splits_text(dataset.key_slices)}" if splits else ""
    finding = Finding(f"{folder} has no key slices{where}", has_gaps=bool(dataset.missing))
    learnt = [one for one in chosen if one.split in predictor.learnt_splits]
    if learnt and dataset.digest == predictor.learnt_from:
        notice(
            f"the model has learnt from {plural(len(learnt), 'slice')} of these {len(chosen):,}: how well it does "
            "there says nothing about other patients"
        )
    with counted(len(chosen), "slice", "looking") as advance:
        for key_slice in chosen:
            advance(1)
            looked = on_key_slices(predictor.detector, dataset, [key_slice], predictor.settings, predictor.delineator)
            try:
                volume, index = dataset.volume(key_slice, 0.0)
                found = tuple(looked)
            except MinerError as error:  # one broken picture takes nothing from the others
                notice(f"{key_slice.file_name} left out: {error}")
                finding.has_gaps = True
                continue
            for detections in found:
                finding.add(detections, volume, {key_slice.file_name: index})
            finding.looked_at += 1
    return finding


def in_studies(predictor: Predictor, settings: Settings, paths: tuple[Path, ...], query: StudyQuery) -> Finding:
    """What is found in the studies of an archive, or of files.

    Raises ArchiveError where the archive is away from the start; later what was found until then is kept.
    """
    import schemas
    from cli.study_volumes import study_volumes
    from dicom_io.opening import ArchiveOpener

    archive = wiring.folder_settings(settings, paths) if paths else wiring.archive_settings(settings)
    unreadable = frozenset(schemas.load("reasons")["unreadable"]) - HARMLESS | {"image_missing"}
    finding = Finding("no CT series that a model may look at", broken=unreadable)
    with counting_files() as progress, ArchiveOpener(archive, progress) as opener, closing(opener.open()) as opened:
        try:
            for series in study_volumes(opened, query, settings.rules):
                finding.left_out.update(series.losses())
                for one in series.volumes:
                    _look(predictor, one, finding)
        except ArchiveError as error:
            if not finding.looked_at:
                raise
            finding.away = error
        finding.left_out.update(one.why for one in opened.set_aside())
    return finding


def _look(predictor: Predictor, one: StudyVolume, finding: Finding) -> None:
    """Adds what is found in one volume."""
    from models.prediction import on_volume

    refs = dict(zip(one.volume.images, one.refs, strict=True))
    with counted(len(one.refs), "slice", "looking") as advance:
        found = on_volume(predictor.detector, one.volume, predictor.settings, predictor.delineator, refs, advance)
    finding.add(found, one.volume, {ref: place for place, ref in enumerate(one.refs)})
    finding.looked_at += len(one.refs)


def draw(finding: Finding, folder: Path) -> int:
    """Draws the surest detections into a folder, and says how many."""
    from models.pictures import draw_detection

    folder.mkdir(parents=True, exist_ok=True)
    ranked = sorted(finding.pixels, key=lambda one: -finding.detections[one].score)
    for rank, place in enumerate(ranked, start=1):
        draw_detection(finding.pixels[place], finding.detections[place]).save(folder / f"{rank:02d}.png")
    return len(ranked)
