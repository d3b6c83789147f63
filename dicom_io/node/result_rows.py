"""Rows of C-FIND over results that come in order, one study, series or image at a time (PS3.4 C.6.2.1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from dicom_io.catalogue import LEVEL_KEYS, UNIQUE_KEY
from dicom_io.node.records import StoredResult


def result_rows(results: Iterable[StoredResult], level: str) -> Iterator[dict[str, str]]:
    """One row of keys for each entity of the level, with its counts, as `catalogue.entities` gives them.

    The results come by study, series and SOP Instance UID; none is held for longer than its entity's row takes to
    count it.
    """
    for _, members in groupby(results, key=lambda one: one.keys[UNIQUE_KEY[level]]):
        yield _row(iter(members), level)


def _row(members: Iterator[StoredResult], level: str) -> dict[str, str]:
    first = next(members)
    row = {key: first.keys.get(key, "") for key in LEVEL_KEYS[level]}
    if level == "IMAGE":
        return row
    modalities, classes = {first.keys.get("Modality", "")}, {first.sop_class_uid}
    series, last_series, instances = 1, first.keys["SeriesInstanceUID"], 1
    for one in members:
        modalities.add(one.keys.get("Modality", ""))
        classes.add(one.sop_class_uid)
        series += one.keys["SeriesInstanceUID"] != last_series
        last_series = one.keys["SeriesInstanceUID"]
        instances += 1
    if level == "SERIES":
        row["NumberOfSeriesRelatedInstances"] = str(instances)
        return row
    row["ModalitiesInStudy"] = "\\".join(sorted(modalities))
    row["SOPClassesInStudy"] = "\\".join(sorted(classes))
    row["NumberOfStudyRelatedSeries"] = str(series)
    row["NumberOfStudyRelatedInstances"] = str(instances)
    return row
