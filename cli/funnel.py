"""The funnel as text and as numbers: found -> readable -> located -> kept -> written, each loss by its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import schemas
from cli.output import plural, size_text

if TYPE_CHECKING:
    from dataset_builder.ledger import Funnel, Loss
    from deeplesion_miner.dataset import BuildSummary
    from deeplesion_miner.studies import Transfers

HARMLESS = frozenset({"not_dicom"})
"""Reasons of unreadable objects that do not make a run partial."""
LABEL_WIDTH = 13
COUNT_WIDTH = 8


def lines(
    funnel: Funnel, transfers: Transfers, built: BuildSummary | None = None, *, only_files: bool = False
) -> list[str]:
    """The funnel for people; with `built`, down to what was written. Of files nothing was moved: they were read."""
    text = [_line("studies", funnel.studies_done, f"mined, {funnel.studies_failed:,} failed")]
    text += [_line("objects", funnel.objects_read, "read"), *_losses(funnel.unreadable)]
    text.append(_line("found", funnel.bookmarks, "bookmarks"))
    left = funnel.bookmarks
    for step, lost in by_step(funnel.rejected).items():
        left -= sum(loss.count for loss in lost.values())
        text += [*_losses(lost), _line(step, left, "bookmarks")]
    if built is not None:
        if built.lesions != left:
            text.append(_loss("population_outlier", left - built.lesions, "far from the dataset's shapes"))
        text.append(_line("written", built.lesions, f"lesions on {plural(built.slices, 'slice')}"))
    text += [_line("flagged", count, code) for code, count in funnel.flags.items()]
    return [*text, *_transfer_lines(transfers, only_files)]


def values(funnel: Funnel, transfers: Transfers, built: BuildSummary | None = None) -> dict[str, Any]:
    """The same as one flat record for ``--json``."""
    steps = {step: sum(loss.count for loss in lost.values()) for step, lost in by_step(funnel.rejected).items()}
    readable = funnel.bookmarks - steps["readable"]
    return {
        "studies_done": funnel.studies_done,
        "studies_failed": funnel.studies_failed,
        "objects_read": funnel.objects_read,
        "unreadable": {code: loss.count for code, loss in funnel.unreadable.items()},
        "bookmarks_found": funnel.bookmarks,
        "bookmarks_readable": readable,
        "bookmarks_located": readable - steps["located"],
        "bookmarks_kept": funnel.kept,
        "rejected": {code: loss.count for code, loss in funnel.rejected.items()},
        "flags": dict(funnel.flags),
        "transfers": asdict(transfers),
        **({} if built is None else {"written": asdict(built)}),
    }


def is_partial(funnel: Funnel) -> bool:
    """True where a study failed or an object that ought to be readable was not."""
    return funnel.studies_failed > 0 or bool(set(funnel.unreadable) - HARMLESS)


def by_step(rejected: Mapping[str, Loss]) -> dict[str, dict[str, Loss]]:
    """Losses before each step of the funnel: 'readable', 'located', 'kept'."""
    steps: dict[str, list[str]] = schemas.load("reasons")["steps"]
    early = {code for codes in steps.values() for code in codes}
    found = {step: {code: rejected[code] for code in codes if code in rejected} for step, codes in steps.items()}
    return {**found, "kept": {code: loss for code, loss in rejected.items() if code not in early}}


def _line(label: str, count: int, text: str) -> str:
    return f"{label:<{LABEL_WIDTH}}{count:>{COUNT_WIDTH},}  {text}"


def _loss(code: str, count: int, example: str) -> str:
    return f"{'':<{LABEL_WIDTH}}{-count:>{COUNT_WIDTH},}  {code}: {example}"


def _losses(lost: Mapping[str, Loss]) -> list[str]:
    return [_loss(code, loss.count, loss.example) for code, loss in lost.items()]


def _transfer_lines(transfers: Transfers, only_files: bool) -> list[str]:
    what = f"{size_text(transfers.bytes)}, {plural(transfers.images, 'image')} among them"
    if only_files:
        text = [_line("read", transfers.objects, f"files ({what})")]
    else:
        text = [_line("transferred", transfers.objects, f"objects (moved: {what})")]
    if transfers.images_in_studies:
        share = transfers.images_not_transferred / transfers.images_in_studies
        left = f"of {plural(transfers.images_in_studies, 'image')} ({share:.1%}, about"
        left += f" {size_text(transfers.bytes_not_transferred)}) were not needed"
        text.append(_line("left alone", transfers.images_not_transferred, left))
    return text
