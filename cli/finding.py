"""What `predict` and `demo` have in common: a model made ready, the slices it looks at, what it finds, pictures."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cli import wiring
from cli.config import Settings
from cli.dataset_options import open_dataset, splits_text
from cli.funnel import HARMLESS
from cli.output import Output, notice, plural
from cli.progress import counted, counting_files
from deeplesion_miner.errors import ArchiveError, MinerError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cli.study_volumes import SeriesVolumes
    from deeplesion_miner.detection import Detection
    from deeplesion_miner.studies import StudyQuery
    from models.delineation.delineate import Delineator
    from models.detectors.port import Detector
    from models.marks import KeySlice
    from models.prediction import PredictionSettings
    from models.reading.folder import DatasetFolder
    from models.unfinished import Looked, Unfinished

LONGEST_PICTURES = 24
"""Pictures that are drawn, of the surest."""
DROPPED = ("beyond_most", "not_finite")
"""Why detections are dropped, as `models.prediction` names it; a test compares."""


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
    computing: str = ""
    """Where and how exactly, e.g. 'cpu bf16'."""
    context: int = 1
    """Slices that the detector sees at once."""

    @property
    def asked(self) -> dict[str, str]:
        """What its answers depend on."""
        return {
            "model": self.detector.model_id,
            "delineator": "none" if self.delineator is None else self.delineator.model_id,
            "computing": self.computing,
            **{name: str(value) for name, value in asdict(self.settings).items()},
        }


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
    """Images that no model may look at, files that cannot be read, and detections that are dropped, by reason."""
    broken: frozenset[str] = frozenset()
    """Codes of reasons for which an image is broken, not merely unfit."""
    has_gaps: bool = False
    """Whether pictures of the dataset are absent or broken."""
    absent: tuple[str, ...] = ()
    """Studies that were asked for by UID and that the archive does not list."""
    away: ArchiveError | None = None
    """Why the archive stopped answering before all was looked at."""

    @property
    def is_partial(self) -> bool:
        """Whether something that should have been looked at could not be."""
        return self.has_gaps or any(reason in self.broken for reason in self.left_out)

    is_stopped: bool = False
    """Whether somebody asked to stop before all was looked at."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing is left to be looked at."""
        return not self.is_stopped and self.away is None

    def add(self, looked: Looked) -> Looked:
        """Adds what was found on one part of the work; gives it back with the pixels alone that are still to be drawn.

        These may be copies: a view would keep a whole volume in memory.
        """
        first = len(self.detections)
        self.detections += looked.detections
        self.pixels |= {first + place: hu for place, hu in looked.pixels.items()}
        surest = sorted(self.pixels, key=lambda one: -self.detections[one].score)[:LONGEST_PICTURES]
        self.pixels = {one: self.pixels[one] for one in surest}
        self.looked_at += looked.slices
        self.left_out.update(looked.left_out)
        return replace(looked, pixels={one - first: hu for one, hu in self.pixels.items() if one >= first})


@dataclass(frozen=True)
class Run:
    """What goes on beside the looking: what is done already, and whether to stop."""

    parts: Unfinished | None = None
    """Kept on disk, for a run that may be interrupted."""
    should_stop: Callable[[], bool] = lambda: False

    def known(self, name: str) -> Looked | None:
        """A part of the work that an earlier run has done."""
        return None if self.parts is None else self.parts.looked.get(name)

    def keep(self, looked: Looked) -> None:
        """Keeps a part that is done."""
        if self.parts is not None:
            self.parts.add(looked)


UNINTERRUPTED = Run()


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
    from models.prediction import PredictionSettings, detector_of, load_delineator, pick_precision
    from models.training.environment import pick_device
    from models.training.model_folder import ModelFolder

    loaded = ModelFolder.load(model)
    return Predictor(
        detector_of(loaded, device, precision),
        None if delineator is None else load_delineator(delineator, device),
        PredictionSettings(least_score=least_score, most=most, masks=masks),
        loaded.dataset_digest,
        loaded.recipe.data.train_splits,
        f"{(where := pick_device(device))} {pick_precision(precision, where)}",
        len(loaded.recipe.data.slice_offsets_mm),
    )


@dataclass(frozen=True, eq=False)
class DatasetWork:
    """Which slices of a dataset are looked at."""

    dataset: DatasetFolder
    slices: tuple[KeySlice, ...]
    nothing: str
    """What to say where there is none."""

    @classmethod
    def of(
        cls, folder: Path, splits: tuple[str, ...] = (), table: str | None = None, annotation: Path | None = None
    ) -> DatasetWork:
        """The key slices of the splits, and those without marks that a table calls annotated, by file name."""
        from models.evaluation.cases import added_slices, read_annotation

        dataset = open_dataset(folder, table)
        added = added_slices(dataset, read_annotation(annotation)) if annotation else ()
        every = sorted((*dataset.key_slices, *added), key=lambda one: one.file_name)
        where = f" in {' or '.join(splits)}; there are {splits_text(dataset.key_slices)}" if splits else ""
        chosen = tuple(one for one in every if not splits or one.split in splits)
        return cls(dataset, chosen, f"{folder} has no key slices{where}")

    @property
    def asked(self) -> dict[str, str]:
        """What tells it from other work."""
        names = hashlib.sha256("\n".join(one.file_name for one in self.slices).encode()).hexdigest()
        return {"dataset": self.dataset.digest[:16], "slices": f"{len(self.slices)} ({names[:16]})"}


def _tell_without_neighbours(predictor: Predictor, work: DatasetWork) -> None:
    from models.prediction import without_neighbours

    alone = len(without_neighbours(work.dataset, work.slices)) if predictor.context > 1 else 0
    if alone:
        notice(
            f"{alone:,} of {plural(len(work.slices), 'slice')} have no neighbours in {work.dataset.path}, and the "
            f"model looks at {predictor.context} slices: it finds next to nothing there; see the recipe lesionnet-s-1"
        )


def in_dataset(predictor: Predictor, work: DatasetWork, run: Run = UNINTERRUPTED) -> Finding:
    """What is found on the slices of a dataset."""
    finding = Finding(work.nothing, has_gaps=bool(work.dataset.missing))
    learnt = [one for one in work.slices if one.split in predictor.learnt_splits]
    if learnt and work.dataset.digest == predictor.learnt_from:
        notice(
            f"the model has learnt from {plural(len(learnt), 'slice')} of these {len(work.slices):,}: how well it does "
            "there says nothing about other patients"
        )
    _tell_without_neighbours(predictor, work)
    with counted(len(work.slices), "slice", "looking") as advance:
        for key_slice in work.slices:
            if run.should_stop():
                finding.is_stopped = True
                break
            advance(1)
            known = run.known(key_slice.file_name)
            if known is not None:
                finding.add(known)
                continue
            try:
                looked = _on_slice(predictor, work.dataset, key_slice)
            except MinerError as error:  # one broken picture takes nothing from the others
                notice(f"{key_slice.file_name} left out: {error}")
                finding.has_gaps = True
                continue
            run.keep(finding.add(looked))
    return finding


def _on_slice(predictor: Predictor, dataset: DatasetFolder, key_slice: KeySlice) -> Looked:
    from models.prediction import on_key_slices
    from models.unfinished import Looked

    dropped: Counter[str] = Counter()
    (found,) = on_key_slices(
        predictor.detector, dataset, [key_slice], predictor.settings, predictor.delineator, dropped
    )
    hu = dataset.hu(key_slice.file_name)
    return Looked(key_slice.file_name, 1, found, dropped, dict.fromkeys(range(len(found)), hu))


def asked_of_studies(settings: Settings, paths: tuple[Path, ...], query: StudyQuery) -> dict[str, str]:
    """What tells the studies of an archive, or of files, from other work."""
    images = ", ".join(str(path.resolve()) for path in paths) or str(settings.archive.address)
    return {"images": images, "studies": str(query), "rules": str(settings.rules)}


def in_studies(
    predictor: Predictor, settings: Settings, paths: tuple[Path, ...], query: StudyQuery, run: Run = UNINTERRUPTED
) -> Finding:
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
            studies = tuple(opened.studies(query))
            finding.absent = query.absent(studies)
            for series in study_volumes(opened, studies, settings.rules, lambda name: run.known(name) is not None):
                looked = run.known(series.name) or _in_series(predictor, series)
                looked = finding.add(looked)
                # what is broken may be whole when the run goes on
                if unreadable.isdisjoint(looked.left_out) and run.known(series.name) is None:
                    run.keep(looked)
                if run.should_stop():
                    finding.is_stopped = True
                    break
        except ArchiveError as error:
            if not finding.looked_at:
                raise
            finding.away = error
        finding.left_out.update(one.why for one in opened.set_aside())
    return finding


def _in_series(predictor: Predictor, series: SeriesVolumes) -> Looked:
    from models.prediction import on_volume
    from models.unfinished import Looked

    detections: list[Detection] = []
    pixels: dict[int, NDArray[np.int16]] = {}
    dropped: Counter[str] = Counter()
    slices = 0
    for one in series.volumes:
        refs = dict(zip(one.volume.images, one.refs, strict=True))
        with counted(len(one.refs), "slice", "looking") as advance:
            found = on_volume(
                predictor.detector, one.volume, predictor.settings, predictor.delineator, refs, advance, dropped
            )
        # copies: views would keep the whole volume in memory
        seen = {each.image for each in found}
        hu: dict[object, NDArray[np.int16]] = {
            ref: one.volume.hu[at].copy() for at, ref in enumerate(one.refs) if ref in seen
        }
        pixels |= {len(detections) + at: hu[each.image] for at, each in enumerate(found)}
        detections += found
        slices += len(one.refs)
    return Looked(series.name, slices, tuple(detections), series.losses() | dict(dropped), pixels)


def draw(finding: Finding, folder: Path) -> int:
    """Draws the surest detections into a folder, and says how many."""
    from models.pictures import draw_detection

    folder.mkdir(parents=True, exist_ok=True)
    ranked = sorted(finding.pixels, key=lambda one: -finding.detections[one].score)
    for rank, place in enumerate(ranked, start=1):
        draw_detection(finding.pixels[place], finding.detections[place]).save(folder / f"{rank:02d}.png")
    return len(ranked)


def tell_if_unfinished(predictions: Path) -> None:
    """Says so where a file of predictions is that of an interrupted run."""
    from models.unfinished import is_unfinished

    if is_unfinished(predictions):
        notice(f"{predictions}: of an interrupted run, which has not looked at everything; its command goes on")


def tell_left_out(found: Finding, output: Output) -> None:
    """What was not looked at and what was dropped, by reason: to people, and as JSON where that is wanted."""
    import schemas

    for reason, count in found.left_out.items():
        if output.as_json:
            output.record("left_out", {"reason": reason, "count": count}, "")
        if reason in DROPPED:
            facts = schemas.load("emit")["left_out"][reason]
            notice(f"left out: {plural(count, 'detection')}, {reason}: {facts['message']} -> {facts['advice']}")
        else:
            notice(f"left out: {plural(count, 'file' if reason == 'not_dicom' else 'image')}, {reason}")
