"""Presentation contexts: what we ask an archive for, and what our own storage SCP accepts (PS3.8 9.3.2)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from socket import IPPROTO_TCP, TCP_NODELAY
from typing import Any

from pydicom import uid
from pynetdicom import AllStoragePresentationContexts, build_context, build_role
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

import schemas

MAXIMUM_PDU_BYTES = 262_144
"""What we let a peer send at once: larger units cost a Python receiver less per object."""

FIND = str(StudyRootQueryRetrieveInformationModelFind)
GET = str(StudyRootQueryRetrieveInformationModelGet)
MOVE = str(StudyRootQueryRetrieveInformationModelMove)
ECHO = str(Verification)

UNCOMPRESSED = [str(uid.ExplicitVRLittleEndian), str(uid.ImplicitVRLittleEndian)]

CT_CLASSES = sorted(schemas.load("sop_classes")["ct"])
REPORT_CLASSES = sorted((*schemas.load("dialects/objects")["content_tree"], str(uid.KeyObjectSelectionDocumentStorage)))
"""Of objects other than images only those with a content tree are fetched; key objects may reject a report of ours."""
OTHER_IMAGE_CLASSES = [
    str(uid.MRImageStorage),
    str(uid.EnhancedMRImageStorage),
    str(uid.PositronEmissionTomographyImageStorage),
    str(uid.EnhancedPETImageStorage),
    str(uid.SecondaryCaptureImageStorage),
    str(uid.ComputedRadiographyImageStorage),
    str(uid.DigitalXRayImageStorageForPresentation),
    str(uid.NuclearMedicineImageStorage),
    str(uid.UltrasoundImageStorage),
    str(uid.XRayAngiographicImageStorage),
]
"""Images that a report may refer to; they are fetched only to be rejected for what they are."""

_CT_SYNTAXES = [
    str(uid.JPEGLSLossless),
    str(uid.JPEGLSNearLossless),
    str(uid.JPEG2000Lossless),
    str(uid.JPEG2000),
    str(uid.JPEGLosslessSV1),
    str(uid.JPEGLossless),
    str(uid.RLELossless),
    str(uid.HTJ2KLossless),
    str(uid.HTJ2KLosslessRPCL),
    str(uid.HTJ2K),
    str(uid.JPEGExtended12Bit),
    str(uid.JPEGBaseline8Bit),
    str(uid.DeflatedExplicitVRLittleEndian),
    str(uid.ExplicitVRBigEndian),
]
_RESULT_SYNTAXES = [str(uid.DeflatedExplicitVRLittleEndian), str(uid.RLELossless)]
_OTHER_SYNTAXES = [str(uid.JPEGLosslessSV1), str(uid.JPEG2000Lossless), str(uid.JPEGBaseline8Bit)]

SCP_SYNTAXES = [*UNCOMPRESSED, *_CT_SYNTAXES, str(uid.JPEG2000MCLossless), str(uid.JPEG2000MC)]
"""What our own storage SCP takes; the sender's first choice among them decides."""


@cache
def retrieve_contexts() -> tuple[PresentationContext, ...]:
    """The contexts of one association for finding and C-GET, at most 128 (PS3.8 9.3.2.2).

    A class gets a context of its own for each compressed syntax beside the one for uncompressed objects: an
    archive picks one syntax a context, and picks one that does not fit where it is offered several.
    """
    wanted = [build_context(service, UNCOMPRESSED) for service in (ECHO, FIND, GET, MOVE)]
    for classes, syntaxes in (
        (CT_CLASSES, _CT_SYNTAXES),
        (REPORT_CLASSES, []),
        (OTHER_IMAGE_CLASSES, _OTHER_SYNTAXES),
    ):
        for sop_class in classes:
            wanted.append(build_context(sop_class, UNCOMPRESSED))
            wanted.extend(build_context(sop_class, [syntax]) for syntax in syntaxes)
    if len(wanted) > 128:
        raise AssertionError(f"{len(wanted)} presentation contexts; an association holds 128")
    return tuple(wanted)


def query_contexts() -> tuple[PresentationContext, ...]:
    """The contexts of an association for finding and C-MOVE."""
    return tuple(build_context(service, UNCOMPRESSED) for service in (ECHO, FIND, MOVE))


def get_contexts(sop_classes: Iterable[str]) -> tuple[PresentationContext, ...]:
    """The contexts of an association for finding and for C-GET of results: uncompressed, deflated or RLE."""
    wanted = [build_context(service, UNCOMPRESSED) for service in (ECHO, FIND, GET)]
    for sop_class in sop_classes:
        wanted.append(build_context(sop_class, UNCOMPRESSED))
        wanted.extend(build_context(sop_class, [syntax]) for syntax in _RESULT_SYNTAXES)
    return tuple(wanted)


def storage_roles(
    sop_classes: Iterable[str] = (*CT_CLASSES, *REPORT_CLASSES, *OTHER_IMAGE_CLASSES),
) -> list[Any]:
    """Role selections that let the peer send to us on our own association (PS3.7 D.3.3.4)."""
    return [build_role(sop_class, scu_role=False, scp_role=True) for sop_class in sop_classes]


@cache
def receiver_contexts() -> tuple[PresentationContext, ...]:
    """All storage classes with all transfer syntaxes: one refused object makes some archives drop the rest."""
    return tuple(
        build_context(str(context.abstract_syntax), SCP_SYNTAXES) for context in AllStoragePresentationContexts
    )


@cache
def node_contexts() -> tuple[PresentationContext, ...]:
    """All storage classes for a server that takes objects, and in the other role gives its own by C-GET.

    Without deflated ones: a small one may inflate to any size, and every sender can send it otherwise, too.
    """
    syntaxes = [syntax for syntax in SCP_SYNTAXES if syntax != str(uid.DeflatedExplicitVRLittleEndian)]
    return tuple(build_context(str(one.abstract_syntax), syntaxes) for one in AllStoragePresentationContexts)


def send_at_once(event: Any) -> None:
    """Handler of ``EVT_CONN_OPEN``: without it small messages wait for delayed acknowledgements (40 ms each)."""
    event.assoc.dul.socket.socket.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
