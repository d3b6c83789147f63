"""What a viewer will do with result objects, before it does: reports, segmentations, contours, presentation states.

The rules are data (`schemas/ohif_rules.toml`), measured with two versions of OHIF.
"""

from __future__ import annotations

from dicom_io.lint.files import LintedFile, LintedFiles, lint_files, study_images
from dicom_io.lint.findings import SEVERITIES, VERSIONS, Finding, Outcome, Outlook
from dicom_io.lint.linting import Linted, check_before_sending, examine, examine_object, lint, lint_object
from dicom_io.lint.series import superseded
from dicom_io.lint.study import StudyImages

__all__ = [
    "SEVERITIES",
    "VERSIONS",
    "Finding",
    "Linted",
    "LintedFile",
    "LintedFiles",
    "Outcome",
    "Outlook",
    "StudyImages",
    "check_before_sending",
    "examine",
    "examine_object",
    "lint",
    "lint_files",
    "lint_object",
    "study_images",
    "superseded",
]
