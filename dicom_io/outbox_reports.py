"""Reports of a study that an archive has got from an outbox, or will get."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dicom_io.dialects import has_content_tree
from dicom_io.outbox import Outbox


def reports_of(outbox: Outbox, destination: str, study_instance_uid: str) -> Mapping[str, Path]:
    """Where the outbox keeps each report, by SOP Instance UID; the file of one that has arrived may be gone."""
    return {
        one.sop_instance_uid: outbox.path(one)
        for one in outbox.of_study(destination, study_instance_uid)
        if has_content_tree(one.sop_class_uid, "")
    }
