"""The story of one bookmark: source, image, every rule's verdict with its numbers, the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli import wiring
from cli.config import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from dataset_builder.ledger import SqliteLedger
    from deeplesion_miner.filters import RuleVerdict
    from deeplesion_miner.studies import StudyOutcome
    from deeplesion_miner.types import Bookmark, Fact, ImageHeader, ImageRef, Kept, Lesion, Verdict


@dataclass(frozen=True)
class Explanation:
    """What is known of one bookmark, judged anew under the rules of now."""

    verdict: Verdict
    public_ids: tuple[str, ...]
    header: ImageHeader | None
    rules: tuple[RuleVerdict, ...]
    lesion: Lesion | None
    hu: NDArray[np.int16] | None
    """The key image (rows, columns); None where it is not at hand."""

    @property
    def bookmark(self) -> Bookmark:
        """The bookmark as the archive said it."""
        return self.verdict.bookmark

    def picture(self) -> Image | None:
        """The lesion drawn on its slice, or None where it has no place or the image is not at hand."""
        from dataset_builder.draw import crop_around, draw_lesion

        if self.lesion is None or self.hu is None or self.header is None:
            return None
        box = self.lesion.box
        axes = (self.lesion.long_axis, self.lesion.short_axis)
        return draw_lesion(self.hu, *axes, box, self.header.window, crop=crop_around(box))


def explain(study: str, key: str, ledger: SqliteLedger, settings: Settings) -> Explanation:
    """The explanation of a bookmark that the ledger knows."""
    from deeplesion_miner.filters import locate, verdicts_in_detail
    from deeplesion_miner.types import Kept, Lesion

    outcome = ledger.outcome(study)
    assert outcome is not None, "the ledger lists bookmarks of mined studies only"
    verdict = _verdict(outcome, key)
    header, hu = (
        _kept_image(verdict, outcome, settings)
        if isinstance(verdict, Kept)
        else _image_at_hand(verdict.bookmark, ledger, settings)
    )
    public_ids = tuple(f"{row.kind} {row.public_id}" for row in ledger.ways_to(key))
    if header is None:
        return Explanation(verdict, public_ids, None, (), None, None)
    rules = verdicts_in_detail(verdict.bookmark, header, settings.rules)
    lesion = locate(verdict.bookmark, header, settings.rules) if verdict.bookmark.long_axis else None
    return Explanation(verdict, public_ids, header, rules, lesion if isinstance(lesion, Lesion) else None, hu)


def text(explanation: Explanation) -> str:
    """The explanation for people."""
    bookmark, source = explanation.bookmark, explanation.bookmark.source
    lines = [
        f"bookmark   {bookmark.key}",
        *(f"public     {name}" for name in explanation.public_ids),
        f"object     study {source.study_instance_uid}, series {source.series_instance_uid}",
        f"           {source.dialect} of {source.writer or 'an unknown writer'}, item {bookmark.item_path or '-'}",
        f"says       {_said(bookmark)}",
        *(f"image      {_image_name(image)}" for image in bookmark.images),
    ]
    lines += [f"rule       {_rule_line(rule)}" for rule in explanation.rules]
    if not explanation.rules:
        lines.append("rule       not applied: the image is not in the working folder")
    if explanation.lesion is not None:
        lines.append(f"place      {_place(explanation.lesion)}")
    return "\n".join([*lines, f"verdict    {_verdict_line(explanation.verdict)}"])


def record(explanation: Explanation) -> dict[str, Any]:
    """The explanation for programs: the bookmark and the verdict whole, each rule with its numbers."""
    from dataset_builder.outcome_json import plain
    from deeplesion_miner.types import Kept

    verdict = explanation.verdict
    return {
        "key": explanation.bookmark.key,
        "public_ids": explanation.public_ids,
        "bookmark": plain(explanation.bookmark),
        "rules": [{"name": rule.name, "passed": rule.passed, "facts": dict(rule.facts)} for rule in explanation.rules],
        "lesion": None if explanation.lesion is None else _numbers(explanation.lesion),
        "verdict": "kept" if isinstance(verdict, Kept) else "rejected",
        "reason": "" if isinstance(verdict, Kept) else verdict.reason,
        "notes": [note.code for note in verdict.notes],
        "message": _verdict_line(verdict),
    }


# --- the image --------------------------------------------------------------------------------------------


def _verdict(outcome: StudyOutcome, key: str) -> Verdict:
    verdicts: list[Verdict] = [*(placed.kept for placed in outcome.placed), *outcome.rejected]
    return next(verdict for verdict in verdicts if verdict.bookmark.key == key)


def _kept_image(kept: Kept, outcome: StudyOutcome, settings: Settings) -> tuple[ImageHeader, NDArray[np.int16] | None]:
    """Header and pixels of a kept lesion, as the dataset has them."""
    from dataset_builder.png import read_png

    header = kept.lesion.header
    names = {image.ref: image.staged_png for stack in outcome.stacks for image in stack.slices}
    path = wiring.stage(settings).path(names[header.ref])
    return header, read_png(path) if path.exists() else None


def _image_at_hand(
    bookmark: Bookmark, ledger: SqliteLedger, settings: Settings
) -> tuple[ImageHeader | None, NDArray[np.int16] | None]:
    """Header and pixels of a rejected bookmark's image, where it was received or still lies where it was read."""
    from deeplesion_miner.filters import key_image
    from deeplesion_miner.types import ImageHeader, Slice
    from dicom_io.opening import open_archive

    paths = _paths_of(bookmark.images, ledger, settings)
    if not paths:
        return None, None
    with closing(open_archive(wiring.folder_settings(settings, paths))) as archive:
        headers = {}
        for ref in bookmark.images:
            found = archive.headers(ref.study_instance_uid, "", [ref.sop_instance_uid]).get(ref.sop_instance_uid)
            if isinstance(found, tuple) and ref.frame_number <= len(found):
                headers[ref] = found[ref.frame_number - 1]
        header = key_image(bookmark, headers, settings.rules)
        if not isinstance(header, ImageHeader):
            return None, None
        for _, image in archive.slices([header.ref]):
            return header, image.hu if isinstance(image, Slice) else None
    return header, None


def _paths_of(refs: Sequence[ImageRef], ledger: SqliteLedger, settings: Settings) -> tuple[Path, ...]:
    """Files that hold the images, or the folders in which `mine import` found them."""
    from dicom_io.store import ObjectStore

    folder = settings.run.work / wiring.OBJECTS
    if folder.is_dir():
        store = ObjectStore(folder)
        received = [store.path(ref.sop_instance_uid) for ref in refs]
        if any(received):
            return tuple(path for path in received if path is not None)
    imports = [run["archive"] for run in ledger.runs() if run["command"] == "import"]
    imported = {Path(line) for archive in imports for line in archive.splitlines()}
    return tuple(sorted(path for path in imported if path.exists()))


# --- in words ---------------------------------------------------------------------------------------------


def _said(bookmark: Bookmark) -> str:
    from deeplesion_miner.types import Segment

    words: list[str] = [bookmark.kind.value]
    for name, axis in (("long axis", bookmark.long_axis), ("short axis", bookmark.short_axis)):
        if axis is not None:
            stated = "" if axis.stated is None else f" stated {axis.stated.value:g} {axis.stated.unit or '(no unit)'},"
            ends = (axis.segment.start, axis.segment.end)
            start, end = (", ".join(f"{value:.2f}" for value in point) for point in ends)
            space = "px" if isinstance(axis.segment, Segment) else "mm"
            words.append(f"{name}{stated} from ({start}) to ({end}) {space}")
    return "; ".join(words)


def _image_name(image: ImageRef) -> str:
    return f"{image.sop_instance_uid} frame {image.frame_number}, series {image.series_instance_uid or '(not named)'}"


def _rule_line(rule: RuleVerdict) -> str:
    numbers = ", ".join(f"{name} {_number(value)}" for name, value in rule.facts)
    return f"{'ok  ' if rule.passed else 'NO  '} {rule.name}{f' ({numbers})' if numbers else ''}"


def _number(value: Fact) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _place(lesion: Lesion) -> str:
    numbers = _numbers(lesion)
    box = ", ".join(f"{value:.1f}" for value in numbers["box_px"])
    short = "" if lesion.short_axis_mm is None else f" x {lesion.short_axis_mm:.2f}"
    return f"{lesion.long_axis_mm:.2f}{short} mm, box ({box}) px"


def _numbers(lesion: Lesion) -> Mapping[str, Any]:
    box = lesion.box
    return {
        "long_axis_mm": lesion.long_axis_mm,
        "short_axis_mm": lesion.short_axis_mm,
        "off_plane_mm": lesion.off_plane_mm,
        "box_px": (box.x_min, box.y_min, box.x_max, box.y_max),
    }


def _verdict_line(verdict: Verdict) -> str:
    from deeplesion_miner.reasons import message, reasons
    from deeplesion_miner.types import Kept

    notes = "".join(f"; {note.code}: {message('flag', note.code, note.facts)}" for note in verdict.notes)
    if isinstance(verdict, Kept):
        return f"kept{notes}"
    advice = reasons("reject")[verdict.reason].advice
    return f"rejected, {verdict.reason}: {message('reject', verdict.reason, verdict.facts)}. {advice}{notes}"
