"""Asks an archive for storage commitment on the association that objects are sent on."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from deeplesion_miner.errors import ArchiveError
from dicom_io.commitment import Reference
from dicom_io.sending import StoreSender

logger = logging.getLogger(__name__)

_ATTEMPTS = 2
"""Orthanc drops the association at a request of a title that it does not list: so often is not by chance."""


class Committer:
    """Requests over a `StoreSender`, which its owner closes; reports go where the sender and a listener send them."""

    def __init__(self, sender: StoreSender) -> None:
        self._sender = sender

    def request(self, transaction_uid: str, objects: Sequence[tuple[str, str]]) -> bool:
        """Requests commitment of (SOP class, SOP instance) UIDs; False where the archive does not offer it to us.

        Raises `ArchiveError` where the archive is away, or refuses this very request.
        """
        references = [Reference(sop_class, uid) for sop_class, uid in objects]
        for _ in range(_ATTEMPTS):
            if not self._sender.takes_commitment:
                return False
            try:
                self._sender.request_commitment(transaction_uid, references)
            except ArchiveError as error:
                if error.status is not None:
                    raise
                logger.warning("%s", error)
            else:
                return True
        text = "%s drops the association when it is asked for storage commitment: does it list our AE title %s?"
        logger.warning(text, self._sender.address, self._sender.calling_ae)
        return False

    def close(self) -> None:
        """Nothing: the sender is its owner's."""
