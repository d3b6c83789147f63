"""The mining story: archive -> bookmarks -> verdicts -> placed lesions -> ledger -> dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field, replace
from threading import local

from deeplesion_miner.errors import ArchiveError, SumsDoNotHold
from deeplesion_miner.filters import READ_KINDS, judge
from deeplesion_miner.merge import merge
from deeplesion_miner.placing import place
from deeplesion_miner.ports import TRY_AGAIN, Archive, Ledger, PngStage, Progress
from deeplesion_miner.rules import Rules
from deeplesion_miner.studies import ObjectReading, PatientFacts, StudyListing, StudyOutcome, StudyQuery, StudyRef
from deeplesion_miner.types import Bookmark, ImageHeader, ImageRef, Kept, Rejected, Unreadable, Verdict

FAILURES_BEFORE_GIVING_UP = 3
"""So many studies in a row that fail because the archive is away end the run; it can be resumed."""

TRIED_AGAIN = frozenset({"not_delivered", "no_codec"})
"""Objects that are unreadable for these reasons may be readable next time: their study is mined again."""


@dataclass(frozen=True)
class MineSettings:
    """How to mine; `digest` names the settings that change outcomes, so that a change of rules mines again."""

    rules: Rules = field(default_factory=Rules)
    workers: int = 1
    digest: str = ""


@dataclass(frozen=True)
class RunSummary:
    """Studies of one run: found = unchanged + mined + failed + not reached."""

    found: int = 0
    unchanged: int = 0
    mined: int = 0
    failed: int = 0
    stopped: bool = False
    set_aside: int = 0
    absent: tuple[str, ...] = ()
    """Studies that were asked for by UID and that the archive does not list."""


def find(archive: Archive, query: StudyQuery) -> Iterator[StudyListing]:
    """Studies with measurement series, as the archive lists them; nothing is transferred."""
    for study in sorted(set(archive.studies(query))):
        yield archive.listing(study)


def mine(
    open_archive: Callable[[], Archive],
    ledger: Ledger,
    stage: PngStage,
    query: StudyQuery,
    settings: MineSettings,
    progress: Progress,
    should_stop: Callable[[], bool] = lambda: False,
) -> RunSummary:
    """Mines every study that matches and is not known in this very state; each is durable when it is done.

    Raises ArchiveError when the archive is away; what was mined until then is kept.
    """
    with closing(open_archive()) as archive:
        studies = sorted(set(archive.studies(query)))
        progress.found(len(studies))
        summary = RunSummary(found=len(studies), absent=query.absent(studies))
        if settings.workers <= 1:
            results = (_mine_one(archive, ledger, stage, study, settings) for study in studies)
            summary = _follow(results, progress, should_stop, summary)
    if settings.workers > 1:
        summary = _mine_in_threads(open_archive, ledger, stage, studies, settings, progress, should_stop, summary)
    # Asked for at the end: second copies that differ show themselves while objects arrive.
    set_aside = archive.set_aside()
    ledger.record_set_aside(set_aside)
    return replace(summary, set_aside=len(set_aside))


def mine_study(archive: Archive, stage: PngStage, listing: StudyListing, rules: Rules) -> StudyOutcome:
    """Three sips of one study: measurement objects, referenced images, context of kept lesions."""
    readings = archive.measurements(listing)
    read = [reading for reading in readings if isinstance(reading, ObjectReading)]
    bookmarks = [bookmark for reading in read for bookmark in reading.bookmarks]
    headers, image_problems = _referenced_headers(archive, listing, bookmarks)
    verdicts = merge(tuple(_verdict(b, headers, listing, rules) for b in bookmarks), rules)
    placing = place(archive, stage, [verdict for verdict in verdicts if isinstance(verdict, Kept)])
    problems = [r for r in readings if isinstance(r, Unreadable)] + image_problems + list(placing.unreadable)
    outcome = StudyOutcome(
        study=listing.study,
        patient=_patient(read, listing),
        fingerprint=listing.fingerprint,
        objects_read=tuple(
            sorted(
                {reading.source.sop_instance_uid for reading in read}
                | {h.ref.sop_instance_uid for h in headers.values() if isinstance(h, ImageHeader)}
                | placing.objects_read
            )
        ),
        unreadable=tuple(sorted(set(problems), key=lambda u: (u.source, u.why))),
        rejected=tuple(v for v in verdicts if isinstance(v, Rejected)) + placing.rejected,
        placed=placing.placed,
        stacks=placing.stacks,
        transfers=archive.transfers(listing),
    )
    _check_sums(bookmarks, outcome)
    return outcome


# --- one study -------------------------------------------------------------------------------------------


def _listed_modality(listing: StudyListing, ref: ImageRef) -> str:
    """Modality of the image series of `ref` as the archive lists it, CT where several are; '' = unknown.

    A report may name its own series as that of its images; such a series tells nothing about them.
    """
    listed = {
        series.modality
        for series in listing.series
        if series.series_instance_uid == ref.series_instance_uid and series.instances is None
    }
    return "CT" if "CT" in listed else min(listed, default="")


def _verdict(
    bookmark: Bookmark, headers: Mapping[ImageRef, ImageHeader | Unreadable], listing: StudyListing, rules: Rules
) -> Verdict:
    """The rules' verdict; images of series that are listed as no CT are not fetched to know that."""
    if bookmark.kind in READ_KINDS and not bookmark.problem:
        modalities = [_listed_modality(listing, ref) for ref in bookmark.images]
        others = [modality for modality in modalities if modality not in ("", "CT")]
        if others:
            return Rejected(bookmark, "not_ct", (("modality", others[0]),))
    return judge(bookmark, headers, rules)


def _referenced_headers(
    archive: Archive, listing: StudyListing, bookmarks: Sequence[Bookmark]
) -> tuple[dict[ImageRef, ImageHeader | Unreadable], list[Unreadable]]:
    """Sip b: the headers of the images that readable bookmarks refer to, asked for series by series."""
    wanted: dict[tuple[str, str], set[ImageRef]] = {}
    for bookmark in bookmarks:
        if bookmark.kind not in READ_KINDS or bookmark.problem:
            continue
        for ref in bookmark.images:
            if _listed_modality(listing, ref) in ("", "CT"):
                wanted.setdefault((ref.study_instance_uid, ref.series_instance_uid), set()).add(ref)
    headers: dict[ImageRef, ImageHeader | Unreadable] = {}
    problems: list[Unreadable] = []
    for (study, series), refs in sorted(wanted.items()):
        found = archive.headers(study, series, sorted({ref.sop_instance_uid for ref in refs}))
        for ref in sorted(refs):
            answer = found.get(ref.sop_instance_uid)
            if isinstance(answer, Unreadable):
                headers[ref] = answer
                problems.append(answer)
            elif answer is not None:
                headers[ref] = _frame(answer, ref)
    return headers, problems


def _frame(frames: Sequence[ImageHeader], ref: ImageRef) -> ImageHeader | Unreadable:
    if 1 <= ref.frame_number <= len(frames):
        return frames[ref.frame_number - 1]
    return Unreadable(
        ref.sop_instance_uid,
        "bad_geometry",
        (("what", "frame"),),
        f"ReferencedFrameNumber {ref.frame_number}, but the object has {len(frames)} frames",
    )


def _patient(read: Sequence[ObjectReading], listing: StudyListing) -> PatientFacts:
    """Patient and date as the first measurement object (by SOP Instance UID) says; else as listed."""
    study = listing.study
    named = [reading.patient for reading in read if reading.patient.patient_id]
    if named:
        return replace(named[0], study_instance_uid=study.study_instance_uid)
    return PatientFacts(study.study_instance_uid, patient_id=study.patient_id, study_date=study.study_date)


def _check_sums(bookmarks: Sequence[Bookmark], outcome: StudyOutcome) -> None:
    """Bookmarks found = kept + rejected, each with exactly one verdict."""
    judged = [r.bookmark.key for r in outcome.rejected] + [p.kept.bookmark.key for p in outcome.placed]
    found = {bookmark.key for bookmark in bookmarks}
    if set(judged) != found or not len(judged) == len(found) == len(bookmarks):
        raise SumsDoNotHold(
            f"study with {len(bookmarks)} bookmarks has {len(judged)} verdicts "
            f"({len(outcome.placed)} kept, {len(outcome.rejected)} rejected)"
        )
    stack_keys = {stack.key for stack in outcome.stacks}
    if not {lesion.stack_key for lesion in outcome.placed} <= stack_keys:
        raise SumsDoNotHold("a kept lesion's slices are missing from its study's stacks")


# --- many studies ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Result:
    study: StudyRef
    outcome: StudyOutcome | None = None
    error: ArchiveError | None = None


def _mine_one(archive: Archive, ledger: Ledger, stage: PngStage, study: StudyRef, settings: MineSettings) -> _Result:
    """One study; durable in the ledger when this returns an outcome. No outcome and no error: unchanged."""
    try:
        listing = archive.listing(study)
        if ledger.is_done(study.study_instance_uid, listing.fingerprint, settings.digest):
            return _Result(study)
        outcome = mine_study(archive, stage, listing, settings.rules)
    except ArchiveError as error:
        ledger.record_failure(study, str(error))
        return _Result(study, error=error)
    ledger.record(outcome, TRY_AGAIN if _is_worth_another_try(outcome) else settings.digest)
    return _Result(study, outcome)


def _is_worth_another_try(outcome: StudyOutcome) -> bool:
    """Whether the next run may find more in the same study, though the archive lists nothing new."""
    return any(problem.why in TRIED_AGAIN for problem in outcome.unreadable)


def _follow(
    results: Iterable[_Result],
    progress: Progress,
    should_stop: Callable[[], bool],
    summary: RunSummary,
) -> RunSummary:
    """Counts results as they come, ends early where the archive is away or a person asks to stop."""
    failures_in_a_row = 0
    for result in results:
        if result.error is not None:
            summary = replace(summary, failed=summary.failed + 1)
            progress.failed(result.study, str(result.error))
            failures_in_a_row = failures_in_a_row + 1 if result.error.temporary else 0
            if failures_in_a_row >= FAILURES_BEFORE_GIVING_UP:
                raise result.error
            continue
        failures_in_a_row = 0
        if result.outcome is None:
            summary = replace(summary, unchanged=summary.unchanged + 1)
            progress.skipped(result.study)
        else:
            summary = replace(summary, mined=summary.mined + 1)
            progress.mined(result.outcome)
        if should_stop():
            return replace(summary, stopped=True)
    return summary


def _mine_in_threads(
    open_archive: Callable[[], Archive],
    ledger: Ledger,
    stage: PngStage,
    studies: Sequence[StudyRef],
    settings: MineSettings,
    progress: Progress,
    should_stop: Callable[[], bool],
    summary: RunSummary,
) -> RunSummary:
    """The same over worker threads, each with an association of its own."""
    mine_here = local()
    opened: list[Archive] = []

    def work(study: StudyRef) -> _Result:
        if not hasattr(mine_here, "archive"):
            try:
                mine_here.archive = open_archive()
            except ArchiveError as error:
                ledger.record_failure(study, str(error))
                return _Result(study, error=error)
            opened.append(mine_here.archive)
        return _mine_one(mine_here.archive, ledger, stage, study, settings)

    def results(pool: ThreadPoolExecutor) -> Iterator[_Result]:
        # A few studies ahead per worker and no more: a stop must not wait for a whole archive.
        waiting: set[Future[_Result]] = set()
        for study in studies:
            waiting.add(pool.submit(work, study))
            while len(waiting) >= 2 * settings.workers:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)

    with ThreadPoolExecutor(settings.workers, thread_name_prefix="mine") as pool:
        try:
            return _follow(results(pool), progress, should_stop, summary)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            for archive in opened:
                archive.close()
