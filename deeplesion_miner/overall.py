"""Tables 1 and 2 of RECIST 1.1: the response of a patient from target, non-target and new lesions.

Source: Eisenhauer et al., Eur J Cancer 2009;45:228-247, section 4.4.2, as `schemas/follow_up.toml` holds it.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import schemas
from deeplesion_miner.response import Response


class Standing(StrEnum):
    """What is known of a non-target lesion at one time point."""

    PRESENT = "present"
    NORMAL = "a lymph node of normal size"
    NOT_EVALUABLE = "not evaluable"


class NonTargetResponse(StrEnum):
    """Of the non-target lesions at one time point [4.3.3]."""

    COMPLETE = "CR"
    PERSISTING = "non-CR/non-PD"
    PROGRESSIVE = "PD"
    """Unequivocal progression, which a person sees and no rule computes."""
    NOT_EVALUABLE = "NE"


class Overall(StrEnum):
    """Of the patient at one time point."""

    COMPLETE = "CR"
    PARTIAL = "PR"
    STABLE = "SD"
    PERSISTING = "non-CR/non-PD"
    """Of patients without target lesions."""
    PROGRESSIVE = "PD"
    NOT_EVALUABLE = "NE"

    @property
    def words(self) -> str:
        """As a report says it."""
        return str(schemas.load("follow_up")["words"][self.value])


def non_target_response(standings: Iterable[Standing]) -> NonTargetResponse | None:
    """Of the non-target lesions where none has progressed unequivocally; None where there is none of them."""
    found = set(standings)
    if not found:
        return None
    if Standing.NOT_EVALUABLE in found:
        return NonTargetResponse.NOT_EVALUABLE
    return NonTargetResponse.PERSISTING if Standing.PRESENT in found else NonTargetResponse.COMPLETE


def overall(targets: Response | None, non_targets: NonTargetResponse | None, has_new_lesion: bool) -> Overall:
    """By table 1, or 2 where there are no target lesions (None). Without any lesion at baseline nothing is evaluable,
    and a new lesion is progression.
    """
    facts = schemas.load("follow_up")
    if targets is None:
        missing, rows = NonTargetResponse.NOT_EVALUABLE, facts["non_targets_only"]
    else:
        missing, rows = NonTargetResponse.COMPLETE, facts["with_targets"]
    others = missing if non_targets is None else non_targets
    (found,) = (
        row["overall"]
        for row in rows
        if (targets is None or targets in row["targets"])
        and others in row["non_targets"]
        and has_new_lesion in row["new_lesions"]
    )
    return Overall(found)
