"""R11: reports that share a series with a later one, of which the viewer shows only the newest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dicom_io.lint.findings import Finding, finding, quoted
from dicom_io.lint.linting import Linted


def superseded(linted: Iterable[Linted]) -> Mapping[str, Finding]:
    """The finding for each report that is not the newest of its series, by SOP Instance UID."""
    newest: dict[str, Linted] = {}
    reports = [one for one in linted if one.kind == "report" and one.series_instance_uid]
    for one in reports:
        best = newest.setdefault(one.series_instance_uid, one)
        if (one.made, one.sop_instance_uid) > (best.made, best.sop_instance_uid):
            newest[one.series_instance_uid] = one
    found = {}
    for one in reports:
        last = newest[one.series_instance_uid].sop_instance_uid
        if one.sop_instance_uid != last:
            found[one.sop_instance_uid] = finding("R11", "same_series", newest=quoted(last))
    return found
