"""What `run`, `import` and `demo` have in common: mine into the ledger, build the dataset, say what became of it."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from cli import funnel, wiring
from cli.config import Settings
from cli.exits import Exit
from cli.output import Output, notice, plural
from cli.progress import Bar, counting_files, stopping_politely
from cli.study_options import tell_absent
from deeplesion_miner.errors import SumsDoNotHold

if TYPE_CHECKING:
    from dataset_builder.ledger import SqliteLedger
    from dataset_builder.stage import Stage
    from deeplesion_miner.miner import RunSummary
    from deeplesion_miner.studies import StudyQuery
    from dicom_io.opening import ArchiveSettings


def mine_and_build(
    command: str, settings: Settings, archive: ArchiveSettings, query: StudyQuery, output: Output
) -> Exit:
    """Mines what matches and is new, writes the dataset of all that is known, prints the funnel."""
    from dataset_builder.writer import DatasetWriter
    from deeplesion_miner.dataset import build

    wiring.check_folders(settings)
    with wiring.open_ledger(settings) as ledger:
        pseudonyms = wiring.pseudonyms(settings, ledger)
        stage = wiring.stage(settings)
        stage.remove_left_overs()
        sink = DatasetWriter(settings.run.out, stage, settings=wiring.writer_settings(settings, pseudonyms))
        number = ledger.start_run(command, archive.address or "\n".join(str(path.resolve()) for path in archive.paths))
        summary = _mine(settings, archive, query, ledger, stage)
        tell_absent(query, summary.absent)
        if summary.stopped:
            done = summary.unchanged + summary.mined + summary.failed
            notice(f"interrupted after {done} of {summary.found} studies; run the same command again to go on")
            return Exit.INTERRUPTED
        if not summary.found:
            return _nothing_matched(ledger)
        built = build(ledger, sink, pseudonyms, wiring.build_settings(settings))
        found, transfers = ledger.funnel(), ledger.transfers()
        values = funnel.values(found, transfers, built)
        values["studies_under_other_settings"] = wiring.studies_under_other_settings(settings, ledger)
        ledger.finish_run(number, values)
        only_files = wiring.knows_only_files(ledger)
    if found.problems():
        raise SumsDoNotHold("; ".join(found.problems()))
    report = sink.folder / "report.html"
    text = [
        f"this run: {summary.found:,} studies found, {summary.mined:,} mined, {summary.unchanged:,} known and"
        f" unchanged, {summary.failed:,} failed",
        *funnel.lines(found, transfers, built, only_files=only_files),
        f"dataset  {sink.folder}",
        f"report   {report}",
        f"digest   {built.digest}",
    ]
    run = {"found": summary.found, "mined": summary.mined, "unchanged": summary.unchanged, "failed": summary.failed}
    paths = {"dataset": sink.folder, "report": report, "digest": built.digest}
    output.record("run", {"run": run, **values, **paths}, "\n".join(text))
    _tell_of_other_settings(values["studies_under_other_settings"])
    return Exit.PARTIAL if funnel.is_partial(found) or summary.absent else Exit.DONE


def _tell_of_other_settings(studies: int) -> None:
    """Says that a dataset holds what different rules gave, and what to do."""
    if studies:
        notice(
            f"{plural(studies, 'study')} of this dataset {'was' if studies == 1 else 'were'} mined under other settings"
            " or by another version of mine; to have one rule for all, run again over everything"
        )


def _nothing_matched(ledger: SqliteLedger) -> Exit:
    """Says why there is nothing to write: partial where broken objects may hide a study."""
    found = ledger.funnel()
    broken = [f"{code} {loss.count:,} ({loss.example})" for code, loss in found.unreadable.items()]
    set_aside = f"; set aside: {', '.join(broken)}" if broken else ""
    notice(f"nothing matched: no study with measurement series{set_aside}; no dataset was written")
    return Exit.PARTIAL if funnel.is_partial(found) else Exit.NOTHING_MATCHED


def _mine(
    settings: Settings, archive: ArchiveSettings, query: StudyQuery, ledger: SqliteLedger, stage: Stage
) -> RunSummary:
    """The mining phase, with a bar and a polite Ctrl-C."""
    from deeplesion_miner.miner import mine
    from dicom_io.opening import ArchiveOpener

    with (
        counting_files() as progress,
        ArchiveOpener(archive, progress) as opener,
        closing(Bar()) as bar,
        stopping_politely(lambda: bar.is_mining) as should_stop,
    ):
        return mine(opener.open, ledger, stage, query, wiring.mine_settings(settings), bar, should_stop)
