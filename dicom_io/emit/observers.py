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
from dicom_io.emit.envelope import MANUFACTURER, MODEL_NAME, software_version
from dicom_io.emit.identity import derived_uid


def observer(author: Author) -> ObserverContext:
    """PS3.16 TID 1002: the algorithm as a device, the reader as a person; this software where no reader is named."""
    if author.is_algorithm:
        uid = derived_uid("device", author.manufacturer, author.name, author.version)
        device = DeviceObserverIdentifyingAttributes(
            uid=uid,
            name=author.name,
            manufacturer_name=author.manufacturer or None,
            model_name=f"{author.name} {author.version}".strip(),
        )
        return ObserverContext(concept("concept", "device"), device)
    if author.name:
        person = PersonObserverIdentifyingAttributes(name=author.name if "^" in author.name else f"{author.name}^")
        return ObserverContext(concept("concept", "person"), person)
    software = DeviceObserverIdentifyingAttributes(
        uid=derived_uid("device", MANUFACTURER, MODEL_NAME, software_version()),
        name=MODEL_NAME,
        manufacturer_name=MANUFACTURER,
        model_name=MODEL_NAME,
    )
    return ObserverContext(concept("concept", "device"), software)


def observation_context(author: Author) -> ObservationContext:
    """PS3.16 TID 1001 with the author as the only observer."""
    if author.is_algorithm or not author.name:
        return ObservationContext(observer_device_context=observer(author))
    return ObservationContext(observer_person_context=observer(author))


def algorithm_of(author: Author) -> AlgorithmIdentification | None:
    """PS3.16 TID 4019; None for a person, and for an algorithm without a version, which the template demands."""
    if not author.is_algorithm or not author.version:
        return None
    return AlgorithmIdentification(
        name=author.name,
        version=author.version,
        manufacturer=author.manufacturer or None,
        parameters=[f"{name}={value}" for name, value in author.parameters] or None,
    )
