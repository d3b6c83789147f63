"""Results that are sent into real archives, looked for there, and corrected."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from phantom_results import MADE, Phantoms, changed
from servers import CALLING_AE, Server

from deeplesion_miner.results import Result
from dicom_io.address import Address
from dicom_io.emit import Emission
from dicom_io.emit.from_archive import emit_from
from dicom_io.object_file import ObjectFile
from dicom_io.opening import ArchiveOpener, ArchiveSettings
from dicom_io.sending import StoreSender
from dicom_io.store_status import Verdict

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Phantoms:
    return Phantoms.write(tmp_path_factory.getbasetemp() / "phantom_results")


def emitted(server: Server, result: Result, folder: Path) -> Emission:
    """With a store of its own, as another machine would have it."""
    folder.mkdir()
    settings = ArchiveSettings(address=server.address, store_folder=folder, calling_ae=CALLING_AE)
    with ArchiveOpener(settings) as opener, closing(opener.open()) as archive:
        return emit_from(archive, result, ["dicom-sr", "dicom-seg"])


def sent(server: Server, contents: list[bytes]) -> None:
    with StoreSender(Address.parse(server.address), CALLING_AE) as sender:
        answers = list(sender.send([ObjectFile.read(one) for one in contents]))
    assert {one.verdict for one in answers} == {Verdict.STORED}


def test_an_archive_gives_back_what_it_takes_to_correct_a_report_and_to_know_the_same_again(
    target: Server, phantoms: Phantoms, tmp_path: Path
) -> None:
    first_said = phantoms.result("bertram/1")
    second_said = replace(changed(first_said, score=0.25), made_at=MADE + timedelta(days=1))
    sent(target, [path.read_bytes() for path in phantoms.images(first_said)])
    first = emitted(target, first_said, tmp_path / "first")
    assert not first.corrects
    sent(target, [one.encoded for one in first.objects])
    second = emitted(target, second_said, tmp_path / "second")
    assert second.corrects == (first.objects[0].sop_instance_uid,)
    sent(target, [one.encoded for one in second.objects])
    again = emitted(target, replace(second_said, made_at=MADE + timedelta(days=9)), tmp_path / "again")
    assert again.objects == second.objects
    assert not again.corrects
    earlier = emitted(target, replace(first_said, made_at=MADE + timedelta(days=9)), tmp_path / "earlier")
    assert earlier.objects == first.objects
    assert earlier.corrected_by == (second.objects[0].sop_instance_uid,)
