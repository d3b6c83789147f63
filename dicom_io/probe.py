"""What an archive can do, found out by a few small questions: the findings behind `mine doctor`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE

from deeplesion_miner.errors import ArchiveError, ConfigError
from deeplesion_miner.studies import InstanceListing, SeriesListing, StudyQuery, StudyRef
from dicom_io import attributes, negotiation
from dicom_io import query as q
from dicom_io.address import Address
from dicom_io.association import Limits
from dicom_io.link import Link
from dicom_io.receiver import Receiver
from dicom_io.store import ObjectStore

_WINDOWS_DAYS = (1, 7, 30, 365)
"""Recent studies are looked for in growing windows, so that a large archive is not asked for everything."""
_SAMPLED_STUDIES = 20
_LATE_S = 3.0


class Level(StrEnum):
    """How much a finding matters: fine, slower or less certain, or mining will not work."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One thing found out about an archive; `advice` is '' where nothing needs to be done."""

    name: str
    level: Level
    text: str
    advice: str = ""


@dataclass(frozen=True)
class _Sample:
    """What the archive listed, to try the next questions on."""

    window: q.Window
    studies: tuple[StudyRef, ...] = ()
    series: SeriesListing | None = None
    study_instance_uid: str = ""
    instances: tuple[InstanceListing, ...] = ()
    longer: tuple[str, str, tuple[str, ...]] = ("", "", ())
    """Study, series and three objects of a series that has so many."""


def probe(
    address: Address,
    calling_ae: str,
    *,
    move_host: str = "0.0.0.0",
    move_port: int | None = None,
    limits: Limits | None = None,
) -> list[Finding]:
    """Findings about an archive, in the order of a mining run; it stores nothing there and keeps nothing here.

    A few small C-FINDs and one or two small objects are asked for. `move_port` tries C-MOVE, too, with our own
    storage SCP listening there. An archive that is away or refuses us is a finding, not an exception.
    """
    limits = limits or Limits(connect_s=5.0, idle_s=30.0, total_s=120.0)
    with tempfile.TemporaryDirectory(prefix="archive-probe-") as folder:
        store = ObjectStore(Path(folder))
        link = Link(address, calling_ae, store=store, limits=limits)
        try:
            return list(_findings(link, store, limits, move_host, move_port))
        finally:
            link.close()


def _findings(
    link: Link, store: ObjectStore, limits: Limits, move_host: str, move_port: int | None
) -> Iterator[Finding]:
    try:
        link.echo()
    except ArchiveError as error:
        yield Finding("echo", Level.FAIL, str(error), "Check host, port and both AE titles with the administrator.")
        return
    yield Finding("echo", Level.OK, f"{link.address} answers C-ECHO to {link.calling_ae}")
    yield _called_title(link.address, link.calling_ae, limits)
    yield from _contexts(link)
    sample = _Sample(q.Window(None, None))
    try:
        sample = _sample(link)
    except ArchiveError as error:
        yield Finding("find", Level.FAIL, str(error), f"Ask the administrator to allow C-FIND for {link.calling_ae}.")
        return
    if not sample.instances:
        text = "C-FIND answers, but lists no study with objects" if not sample.studies else "a study without objects"
        yield Finding("find", Level.WARN, text, "Nothing more can be tried on an empty archive.")
        return
    yield Finding(
        "find", Level.OK, f"{len(sample.studies)} studies sampled, {len(sample.instances)} objects in a series"
    )
    yield from _guarded("modalities_in_study", lambda: _modalities(link, sample))
    yield from _guarded("relational_series", lambda: _relational(link, sample))
    yield from _guarded("uid_lists", lambda: _uid_lists(link, sample))
    yield from _keys(sample)
    yield _got(link, store, sample)
    if move_port is not None:
        yield _moved(link.calling_ae, link.address, limits, sample, move_host, move_port)


def _guarded(name: str, check: Callable[[], Finding]) -> Iterator[Finding]:
    """The check's finding; an archive that refuses the question is a warning: we have another way to ask."""
    try:
        yield check()
    except ArchiveError as error:
        yield Finding(name, Level.WARN, str(error), "Another, slower question is used instead.")


def _called_title(address: Address, calling_ae: str, limits: Limits) -> Finding:
    """Whether the archive minds being called by another title: then case and spelling matter."""
    wrong = "NO_SUCH_TITLE" if address.ae_title != "NO_SUCH_TITLE" else "NO_SUCH_TITLE_2"
    entity = AE(ae_title=calling_ae)
    entity.connection_timeout, entity.acse_timeout = limits.connect_s, limits.negotiate_s
    entity.add_requested_context(negotiation.ECHO)
    association = entity.associate(address.host, address.port, ae_title=wrong)
    if association.is_established:
        association.release()
        return Finding("called_title", Level.OK, "any called AE title is accepted")
    return Finding("called_title", Level.OK, f"called AE titles are checked to the letter; {address.ae_title} is right")


def _contexts(link: Link) -> Iterator[Finding]:
    """Services, storage classes with their roles, and compressed syntaxes of CT."""
    accepted = link.accepted_contexts()
    classes = {str(context.abstract_syntax) for context in accepted}
    for name, service, level in (("find", negotiation.FIND, Level.FAIL), ("get", negotiation.GET, Level.WARN)):
        if service not in classes:
            advice = "Mining needs it." if level is Level.FAIL else "Use method = 'move' in [archive]."
            yield Finding(f"{name}_service", level, f"C-{name.upper()} in the Study Root model is not offered", advice)
    wanted = [*negotiation.CT_CLASSES, *negotiation.REPORT_CLASSES]
    refused = [UID(one).name for one in wanted if one not in classes]
    if refused:
        text = "not accepted: " + ", ".join(refused)
        yield Finding("storage_classes", Level.WARN, text, "Objects of these classes cannot come by C-GET.")
    else:
        yield Finding("storage_classes", Level.OK, f"all {len(wanted)} storage classes are accepted")
    storage = [context for context in accepted if str(context.abstract_syntax) in wanted]
    if storage and not all(context.as_scp for context in storage):
        text = "the archive does not agree to send to us on our own association (SCP role refused)"
        yield Finding("roles", Level.WARN, text, "C-GET will fail; use method = 'move' in [archive].")
    elif storage:
        yield Finding("roles", Level.OK, "the SCP role is accepted for all storage classes")
    syntaxes = [
        UID(str(context.transfer_syntax[0])).name
        for context in storage
        if str(context.abstract_syntax) == negotiation.CT_CLASSES[0]
    ]
    yield Finding("transfer_syntaxes", Level.OK, "CT images may come as: " + ", ".join(syntaxes or ["(none)"]))


def _sample(link: Link) -> _Sample:
    """A few studies and a small series, a report where there is one."""
    today = datetime.now(UTC).date()
    windows = [q.Window(today - timedelta(days=days), today + timedelta(days=1)) for days in _WINDOWS_DAYS]
    for window in (*windows, q.Window(date(1900, 1, 1), today), q.Window(None, None)):
        studies = q.studies(link.find(q.study_keys(window)), window, StudyQuery())
        if studies:
            break
    else:
        return _Sample(window)
    sample = _Sample(window, tuple(studies[uid] for uid in sorted(studies))[:_SAMPLED_STUDIES])
    for study in sample.studies:
        sample = _with_series(link, sample, study.study_instance_uid)
        if sample.series is not None and sample.series.modality == "SR" and sample.longer[2]:
            break
    return sample


def _with_series(link: Link, sample: _Sample, study: str) -> _Sample:
    """The sample, bettered by what a study has: a report instead of other objects, a series of three or more."""
    series = q.series(link.find(q.series_keys(study)), study)
    first_report = sorted(series, key=lambda one: (one.modality != "SR", one.instance_count or 0))
    for one in first_report[:2]:
        uid = one.series_instance_uid
        instances = q.instances(link.find(q.listing_keys(study, uid)), study, uid)
        if instances and (sample.series is None or (sample.series.modality != "SR" and one.modality == "SR")):
            sample = replace(sample, series=one, study_instance_uid=study, instances=instances)
        if len(instances) >= 3 and not sample.longer[2]:
            sample = replace(sample, longer=(study, uid, tuple(each.sop_instance_uid for each in instances[:3])))
    return sample


def _modalities(link: Link, sample: _Sample) -> Finding:
    """Is ModalitiesInStudy returned, and does it filter?"""
    identifier = q.study_keys(sample.window)
    identifier.ModalitiesInStudy = "SR"
    rows = link.find(identifier)
    told = [attributes.texts(row, "ModalitiesInStudy") for row in rows]
    if rows and not any(told):
        text = "ModalitiesInStudy is neither returned nor matched"
    elif any(modalities and "SR" not in modalities for modalities in told):
        text = "ModalitiesInStudy is returned, but does not filter"
    else:
        return Finding("modalities_in_study", Level.OK, f"ModalitiesInStudy filters: {len(rows)} studies with SR")
    return Finding("modalities_in_study", Level.WARN, text, "Nothing to do: every match is checked by its series.")


def _relational(link: Link, sample: _Sample) -> Finding:
    """May series be asked for without naming a study?"""
    modality = sample.series.modality if sample.series is not None and sample.series.modality else "SR"
    rows = link.find(q.series_keys("", modality, sample.window))
    known = sample.study_instance_uid
    if known in q.measured_studies(rows, modality):
        wrong = sum(attributes.text(row, "Modality") not in ("", modality) for row in rows)
        if not wrong:
            count = len({attributes.text(row, "SeriesInstanceUID") for row in rows})
            return Finding("relational_series", Level.OK, f"relational SERIES queries work: {count} {modality} series")
        text = f"relational SERIES queries ignore the modality ({wrong} of {len(rows)} series are something else)"
    else:
        text = f"a relational SERIES query does not list a {modality} series that the archive has"
    return Finding(
        "relational_series", Level.WARN, text, "Finding studies takes one question a study instead of one a modality."
    )


def _uid_lists(link: Link, sample: _Sample) -> Finding:
    """Are lists of UIDs matched (PS3.4 C.2.2.2.2)?"""
    study, series, uids = sample.longer
    if not uids:
        return Finding("uid_lists", Level.OK, "not tried: no series of three objects was sampled")
    found = {attributes.text(row, "SOPInstanceUID") for row in link.find(q.image_keys(study, series, uids[1:]))}
    if found == set(uids[1:]):
        return Finding("uid_lists", Level.OK, "lists of UIDs are matched")
    text = f"a list of {len(uids) - 1} UIDs matches {len(found)} objects"
    return Finding("uid_lists", Level.WARN, text, "Objects are fetched one by one where lists fail.")


def _keys(sample: _Sample) -> Iterator[Finding]:
    """Which optional keys come back."""
    told = {
        "SOPClassUID": any(one.sop_class_uid for one in sample.instances),
        "InstanceNumber": any(one.instance_number is not None for one in sample.instances),
        "NumberOfSeriesRelatedInstances": sample.series is not None and sample.series.instance_count is not None,
        "Modality": sample.series is not None and bool(sample.series.modality),
    }
    missing = [keyword for keyword, is_told in told.items() if not is_told]
    if not missing:
        yield Finding("keys", Level.OK, "all keys that help are returned")
    else:
        text = "not returned: " + ", ".join(missing)
        yield Finding("keys", Level.WARN, text, "Nothing to do: what is not told is found out by listing or fetching.")


def _got(link: Link, store: ObjectStore, sample: _Sample) -> Finding:
    """Does C-GET bring one object, and two by one request?"""
    return _fetched("get", store, sample, lambda identifier: link.get(identifier), "Use method = 'move' in [archive].")


def _moved(calling_ae: str, address: Address, limits: Limits, sample: _Sample, host: str, port: int) -> Finding:
    """Does C-MOVE bring one object to our own storage SCP?"""
    advice = f"The archive must know {calling_ae} as a destination at this host and port {port}, and reach it."
    with tempfile.TemporaryDirectory(prefix="archive-probe-") as folder:
        store = ObjectStore(Path(folder))
        link = Link(address, calling_ae, limits=limits)
        try:
            with Receiver(store, calling_ae, host=host, port=port) as receiver:

                def move(identifier: Dataset) -> None:
                    uids = attributes.texts(identifier, "SOPInstanceUID")
                    receiver.expect(uids)
                    link.move(identifier, calling_ae)
                    receiver.wait_for(lambda: all(store.has(uid) for uid in uids), _LATE_S)

                return _fetched("move", store, sample, move, advice)
        except ConfigError as error:
            return Finding("move", Level.FAIL, str(error), "Choose another move_port in [archive].")
        finally:
            link.close()


def _fetched(
    name: str, store: ObjectStore, sample: _Sample, fetch: Callable[[Dataset], object], advice: str
) -> Finding:
    assert sample.series is not None
    first = sample.instances[0].sop_instance_uid
    try:
        fetch(q.image_keys(sample.study_instance_uid, sample.series.series_instance_uid, [first]))
    except ArchiveError as error:
        return Finding(name, Level.FAIL, str(error), advice)
    if not store.has(first):
        return Finding(name, Level.FAIL, f"C-{name.upper()} of an object ends without it", advice)
    study, series, uids = sample.longer
    if not uids:
        return Finding(name, Level.OK, f"C-{name.upper()} brings an object; lists of UIDs were not tried")
    complaint = ""
    try:
        fetch(q.image_keys(study, series, uids[1:]))
    except ArchiveError as error:
        complaint = f": {error}"
    if all(store.has(uid) for uid in uids[1:]):
        return Finding(name, Level.OK, f"C-{name.upper()} brings objects, also by lists of UIDs")
    text = f"C-{name.upper()} brings an object, but not those of a list of UIDs{complaint}"
    return Finding(name, Level.WARN, text, "Nothing to do: objects are fetched one by one where lists fail.")
