"""`mine lint`: what a viewer will do with results, before anybody opens them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.config import Configuration
from cli.exits import Exit
from cli.options import command as make_command
from cli.output import Output, notice, plural

if TYPE_CHECKING:
    from dicom_io.lint import Finding, Linted, LintedFile, Outlook

EXAMPLE = """
mine lint report.dcm
mine lint results/ --study /data/study       # with its images: missing ones, lengths, pixels that are not square
mine lint results/ --json
"""
OPENS = {
    "editable": "{measurements} to edit",
    "read_only": "drawn, not to edit",
    "text": "as text",
    "overlay": "opens",
    "nothing": "nothing loads",
    "fails": "does not open",
}
"""By the word of an outlook."""


@make_command("lint", EXAMPLE)
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILES...")
@click.option("--study", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Images of the study that the objects refer to.")  # fmt: skip
@click.option("--advice/--no-advice", default=True, show_default=True, help="Show what is good but could be better.")
def command(
    configuration: Configuration, output: Output, paths: tuple[Path, ...], study: Path | None, advice: bool
) -> Exit:
    """Say what the OHIF viewer will do with results.

    Reads anybody's structured reports, segmentations, structure sets and presentation states; folders are searched
    whole. For each object: what opens in OHIF 3.13.2 and 3.11.1, each rule that is broken, where, what was found,
    and what a reader will see. Exit code 6 where a rule is broken; advice breaks none. docs/results.md has the rules.
    """
    from dicom_io.lint import lint_files, study_images

    found = lint_files(paths, None if study is None else study_images([study]))
    for one in found.objects:
        _tell(one, output, advice)
    for bad in found.unreadable:
        values = {"path": bad.source, "why": bad.why, "detail": bad.detail}
        output.record("unreadable", values, f"{bad.source}: unreadable, {bad.why}: {bad.detail}")
    broken = [one for one in found.objects if not one.linted.is_good]
    notice(f"{plural(len(found.objects), 'object')}, {len(broken):,} with broken rules")
    if found.passed_over:
        notice(f"passed over: {plural(found.passed_over, 'file')} of no kind that has rules")
    if broken:
        return Exit.VERIFICATION_FAILED
    if found.unreadable:
        return Exit.PARTIAL
    return Exit.DONE if found.objects else Exit.NOTHING_MATCHED


def _tell(one: LintedFile, output: Output, advice: bool) -> None:
    linted = one.linted
    opens = "; ".join(f"{outlook.version}: {_opens(outlook)}" for outlook in linted.outlooks)
    values: dict[str, Any] = {
        "path": str(one.path),
        "kind": linted.kind,
        "sop_instance_uid": linted.sop_instance_uid,
        "is_good": linted.is_good,
        "outlook": {look.version: {"opens": look.opens, "measurements": look.measurements} for look in linted.outlooks},
    }
    output.record("linted", values, f"{one.path}: {linted.kind.replace('_', ' ')}; OHIF {opens}")
    for found in linted.findings:
        if advice or not found.is_advice:
            output.record("finding", _values(found, linted, one.path), _text(found))


def _opens(outlook: Outlook) -> str:
    return OPENS[outlook.opens].format(measurements=plural(outlook.measurements, "measurement"))


def _values(found: Finding, linted: Linted, path: Path) -> dict[str, Any]:
    return {
        "path": str(path),
        "sop_instance_uid": linted.sop_instance_uid,
        "rule": found.rule,
        "case": found.case,
        "item": found.path,
        "found": found.found,
        "severity": found.severity,
        "sure": found.sure,
        "advice": found.advice,
        "does": {one.version: {"effect": one.effect, "sees": one.sees} for one in found.outcomes},
    }


def _text(found: Finding) -> str:
    """The finding, what each version does (once where all do the same), and what to do."""
    sees = {one.sees for one in found.outcomes}
    does = [f"OHIF: {sees.pop()}"] if len(sees) == 1 else [f"OHIF {one.version}: {one.sees}" for one in found.outcomes]
    where = f" at item {found.path}" if found.path else ""
    lines = [f"  {found.rule} {found.severity}{where}: {found.found}", *(f"      {line}" for line in does)]
    return "\n".join([*lines, f"      -> {found.advice}"])
