"""Who measured, as reports say it: a device or a person observer, and the algorithm of each measurement group."""

from __future__ import annotations

from highdicom.sr import (
    AlgorithmIdentification,
    DeviceObserverIdentifyingAttributes,
    ObservationContext,
    ObserverContext,
    PersonObserverIdentifyingAttributes,
)

from deeplesion_miner.results import Author
from dicom_io.emit.concepts import concept
from dicom_io.emit.envelope import MANUFACTURER, MODEL_NAME
from dicom_io.emit.identity import derived_uid
from dicom_io.emit.wording import person_name


def is_person(author: Author) -> bool:
    """True for a reader whom the archive names."""
    return not author.is_algorithm and bool(person_name(author.name))


def observer(author: Author) -> ObserverContext:
    """PS3.16 TID 1002: the algorithm as a device, the reader as a person; this software where no reader is named."""
    if author.is_algorithm:
        uid = derived_uid("device", author.manufacturer, author.name, author.version)
        device = DeviceObserverIdentifyingAttributes(
            uid=uid,
            name=author.name or None,
            manufacturer_name=author.manufacturer or None,
            model_name=f"{author.name} {author.version}".strip() or None,
        )
        return ObserverContext(concept("concept", "device"), device)
    if is_person(author):
        person = PersonObserverIdentifyingAttributes(name=person_name(author.name))
        return ObserverContext(concept("concept", "person"), person)
    software = DeviceObserverIdentifyingAttributes(
        uid=derived_uid("device", MANUFACTURER, MODEL_NAME),
        name=MODEL_NAME,
        manufacturer_name=MANUFACTURER,
        model_name=MODEL_NAME,
    )
    return ObserverContext(concept("concept", "device"), software)


def observation_context(author: Author) -> ObservationContext:
    """PS3.16 TID 1001 with the author as the only observer."""
    if is_person(author):
        return ObservationContext(observer_person_context=observer(author))
    return ObservationContext(observer_device_context=observer(author))


def algorithm_of(author: Author) -> AlgorithmIdentification | None:
    """PS3.16 TID 4019; None for a person, and for an algorithm without name or version, which the template demands."""
    if not (author.is_algorithm and author.name and author.version):
        return None
    return AlgorithmIdentification(
        name=author.name,
        version=author.version,
        manufacturer=author.manufacturer or None,
        parameters=[f"{name}={value}" for name, value in author.parameters] or None,
    )
