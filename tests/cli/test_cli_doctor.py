"""`mine doctor` looks at where results go, too, and stores nothing there."""

from __future__ import annotations

from pathlib import Path

from cli_runs import Mine

from dicom_io.testbed.embedded import EmbeddedArchive


def test_the_doctor_tells_what_an_archive_takes_of_results(mine: Mine, tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    with EmbeddedArchive(tmp_path / "archive") as archive:
        as_archive = mine("doctor", archive.address, "--target", "--json")
        as_destination = mine("doctor", "--to", archive.address, "--json")
        assert archive.objects == (), "nothing is stored"
    found = {record["name"]: record for record in as_archive.records}
    assert as_archive.code == as_destination.code == 0, as_archive.out
    assert {found[f"target_{name}"]["level"] for name in ("seg", "sr_comprehensive", "rtstruct", "find")} == {"ok"}
    assert found["target_commitment"]["level"] == "warn"
    assert found["target_commitment"]["advice"] == "Fallback: commitment -> proof by C-FIND."
    assert {record["name"] for record in as_destination.records if record["name"].startswith("target")} == {
        name for name in found if name.startswith("target")
    }


def test_the_doctor_tells_a_target_that_is_away_from_one_that_was_not_named(mine: Mine) -> None:
    away = mine("doctor", "--to", "PACS@127.0.0.1:9")
    assert away.code == 5
    assert "nobody listens there" in away.out
    assert mine("doctor", "--target").code == 2
    assert mine("doctor", "--stow", "pacs.example.org/dicom-web").code == 2
