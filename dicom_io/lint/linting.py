"""Any object of results, linted: the door of this folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

import schemas
from deeplesion_miner.types import Unreadable
from dicom_io import part10
from dicom_io.attributes import items, quiet, text
from dicom_io.lint.findings import TABLE, VERSIONS, Finding, Outlook, finding
from dicom_io.lint.report import report_findings
from dicom_io.lint.study import StudyImages


@dataclass(frozen=True)
class Linted:
    """An object, what is wrong with it, and what becomes of it in each version of the viewer."""

    kind: str
    """A word of `schemas/ohif_rules.toml` kind: report, segmentation, structure_set ...; 'other' for the rest."""
    sop_instance_uid: str
    series_instance_uid: str
    made: str
    """Date and time of the content as one text, '' where they are not stated: orders the objects of a series."""
    findings: tuple[Finding, ...] = ()
    outlooks: tuple[Outlook, ...] = ()
    """() for an object whose fate nobody has measured."""

    @property
    def is_good(self) -> bool:
        """True where no rule is broken: advice may stand."""
        return all(one.is_advice for one in self.findings)


def examine(path_or_bytes: Path | str | bytes, study: StudyImages | None = None) -> Linted | Unreadable:
    """The object in a file, linted; Unreadable with the reason where it cannot be read. OSError as for `open`."""
    dataset = part10.read(path_or_bytes, pixels=False)
    return dataset if isinstance(dataset, Unreadable) else examine_object(dataset, study)


def examine_object(dataset: Dataset, study: StudyImages | None = None) -> Linted:
    """The object, linted; with the study's images also for what only they tell."""
    with quiet():
        kind = kind_of(dataset)
        found, outlooks = _found(kind, dataset, study)
        return Linted(
            kind=kind,
            sop_instance_uid=text(dataset, "SOPInstanceUID"),
            series_instance_uid=text(dataset, "SeriesInstanceUID"),
            made=text(dataset, "ContentDate") + text(dataset, "ContentTime"),
            findings=found,
            outlooks=outlooks,
        )


def lint(path_or_bytes: Path | str | bytes, study: StudyImages | None = None) -> tuple[Finding, ...] | Unreadable:
    """The findings of `examine` alone."""
    found = examine(path_or_bytes, study)
    return found if isinstance(found, Unreadable) else found.findings


def lint_object(dataset: Dataset, study: StudyImages | None = None) -> tuple[Finding, ...]:
    """The findings of `examine_object` alone."""
    return examine_object(dataset, study).findings


def check_before_sending(encoded: bytes, study: StudyImages | None = None) -> tuple[Finding, ...]:
    """What forbids to send a report: its findings without the advice; () for a good one and for any other object.

    Other objects are asked for by name: who writes presentation states or fractional masks has viewers for them.
    ValueError for bytes that are no DICOM object.
    """
    found = examine(encoded, study)
    if isinstance(found, Unreadable):
        raise ValueError(f"{found.why}: {found.detail}")
    if found.kind != "report":
        return ()
    return tuple(one for one in found.findings if not one.is_advice)


def kind_of(dataset: Dataset) -> str:
    """What kind of object it is, by its SOP class: a word of the table's section 'kind'; 'other' for the rest."""
    return str(schemas.load(TABLE)["kind"].get(text(dataset, "SOPClassUID"), "other"))


def _found(kind: str, dataset: Dataset, study: StudyImages | None) -> tuple[tuple[Finding, ...], tuple[Outlook, ...]]:
    if kind == "report":
        return report_findings(dataset, study)
    if kind == "presentation_state":
        return _alone(finding("P1", "presentation_state"))
    if kind == "label_map":
        has_background = any(text(one, "SegmentNumber") == "0" for one in items(dataset, "SegmentSequence"))
        return _alone(finding("S1", "labelmap")) if has_background else _overlay()
    if kind == "segmentation":
        fractional = text(dataset, "SegmentationType") == "FRACTIONAL"
        return _alone(finding("S1", "fractional")) if fractional else _overlay()
    return _overlay() if kind == "structure_set" else ((), ())


def _alone(one: Finding) -> tuple[tuple[Finding, ...], tuple[Outlook, ...]]:
    opens = {"fails": "fails", "wrong": "overlay"}
    return (one,), tuple(Outlook(version, opens[one.effect(version)]) for version in VERSIONS)


def _overlay() -> tuple[tuple[Finding, ...], tuple[Outlook, ...]]:
    return (), tuple(Outlook(version, "overlay") for version in VERSIONS)
