"""Builds the pieces from the configuration; the identified and the public side never share a folder."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from cli.config import Settings
from cli.output import notice
from deeplesion_miner.errors import ConfigError

if TYPE_CHECKING:
    from dataset_builder.ledger import SqliteLedger
    from dataset_builder.stage import Stage
    from dataset_builder.writer import WriterSettings
    from deeplesion_miner.dataset import BuildSettings
    from deeplesion_miner.miner import MineSettings
    from deeplesion_miner.pseudonyms import Pseudonyms
    from dicom_io.opening import ArchiveSettings
    from dicom_io.outbox import Outbox

KEY_NAME = "pseudonym.key"
KEY_BYTES = 32
KEY_BINDING = "pseudonym key"
"""What the ledger calls the key that it is bound to."""
OUTBOX = "outbox"
"""Folder of the working folder: results on their way to an archive."""
NODE = "node"
"""Folder of the node in the working folder: received objects, journal, its own results."""
OBJECTS, STAGE = "objects", "stage"
"""Folders of the working folder: received objects; encoded slices that wait for a dataset."""


def check_folders(settings: Settings) -> None:
    """Raises ConfigError where the public and the identified side, or two datasets, would lie in one another."""
    from dataset_builder.swap import enclosing_dataset

    out, work = settings.run.out.resolve(), settings.run.work.resolve()
    if out == work or out in work.parents or work in out.parents:
        raise ConfigError(
            f"--work {settings.run.work} and --out {settings.run.out} lie in one another; the working folder"
            " identifies patients and the dataset is what may travel: name two separate folders"
        )
    for flag, folder in (("--out", settings.run.out), ("--work", settings.run.work)):
        dataset = enclosing_dataset(folder)
        if dataset is not None:
            raise ConfigError(f"{flag} {folder} lies inside the dataset {dataset}; name a folder elsewhere")
    key = _key_path(settings).resolve()
    if out in key.parents:
        raise ConfigError(
            f"--key-file {key} lies inside the dataset {settings.run.out}; who has the key can find the"
            " patients: move it elsewhere"
        )


def open_ledger(settings: Settings) -> SqliteLedger:
    """The ledger of the working folder, for writing; raises LedgerInUse."""
    from dataset_builder.ledger import FILE_NAME, SqliteLedger

    return SqliteLedger(settings.run.work / FILE_NAME)


def read_ledger(settings: Settings) -> SqliteLedger:
    """The ledger of the working folder, for reading only; ConfigError where there is none."""
    from dataset_builder.ledger import FILE_NAME, SqliteLedger

    return SqliteLedger.reader(settings.run.work / FILE_NAME)


def stage(settings: Settings) -> Stage:
    """Where encoded slices wait for the dataset."""
    from dataset_builder.stage import Stage

    return Stage(settings.run.work / STAGE)


def pseudonyms(settings: Settings, ledger: SqliteLedger, environment: Mapping[str, str] | None = None) -> Pseudonyms:
    """Pseudonyms under the key of MINE_KEY, --key-file or the working folder, where the first run makes one.

    Raises ConfigError for a key that is missing, lost, too short, or not the one of this ledger.
    """
    from deeplesion_miner.pseudonyms import Pseudonyms

    found = Pseudonyms(_key(settings, ledger, os.environ if environment is None else environment))
    # The token is a keyed hash: it tells keys apart and reveals nothing of them.
    ledger.bind(KEY_BINDING, found.token("ledger"), "give the old key (--key-file) or start a new --work")
    return found


def _key_path(settings: Settings) -> Path:
    named = settings.deidentification.key_file
    return Path(named).expanduser() if named else settings.run.work / KEY_NAME


def _key(settings: Settings, ledger: SqliteLedger, environment: Mapping[str, str]) -> bytes:
    if environment.get("MINE_KEY"):
        if settings.deidentification.key_file:
            raise ConfigError("MINE_KEY and --key-file are both given; give one")
        return environment["MINE_KEY"].encode()
    path = _key_path(settings)
    if not path.exists() and not settings.deidentification.key_file:
        if ledger.is_bound(KEY_BINDING):
            raise ConfigError(
                f"key file {path}: lost, and what was mined here belongs to it; put it back, or give the key"
                " (--key-file or MINE_KEY); if it is gone for good, start anew with another --work and --out"
            )
        _make_key(path)
    try:
        mode, key = path.stat().st_mode, path.read_bytes()
    except OSError as error:
        raise ConfigError(f"key file {path}: cannot be read ({error.strerror})") from error
    if mode & 0o077:
        notice(f"key file {path}: other users can read it; chmod 600 {path}")
    return key.rstrip(b"\r\n")


def _make_key(path: Path) -> None:
    """Makes a random key; a crash before the rename leaves none, never half of one."""
    partial = path.with_name(f"{path.name}.partial")
    with os.fdopen(os.open(partial, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
        file.write(secrets.token_hex(KEY_BYTES) + "\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    notice(f"made a pseudonym key: {path} (keep it secret and keep it: without it this dataset cannot grow)")


def archive_settings(settings: Settings) -> ArchiveSettings:
    """How to reach the archive on the network; ConfigError where none is named."""
    from dicom_io.opening import ArchiveSettings

    archive = settings.archive
    if not archive.address:
        raise ConfigError(
            "no archive is named; write AET@host:port after `mine run`, `mine find` or `mine doctor`, elsewhere after"
            " --archive, or as address in [archive]"
        )
    if settings.run.workers > archive.max_associations:
        raise ConfigError(
            f"{settings.run.workers} workers need as many associations and [archive] max_associations is"
            f" {archive.max_associations}: use fewer workers, or raise it if the archive bears more"
        )
    return ArchiveSettings(
        address=archive.address,
        store_folder=settings.run.work / OBJECTS,
        calling_ae=archive.calling_ae,
        method=archive.method,
        move_host=archive.move_host,
        move_port=archive.move_port,
        images_per_minute=archive.images_per_minute,
        hours=archive.hours,
        max_object_mb=archive.max_object_mb,
        max_associations=archive.max_associations,
    )


def outbox(settings: Settings) -> Outbox:
    """Results on their way to archives; whoever opens it closes it."""
    from dicom_io.delivery_rules import Policy
    from dicom_io.issuers import Issuers
    from dicom_io.outbox import Outbox

    send = settings.send
    policy = Policy(
        attempts=send.attempts,
        refusals=send.refusals,
        first_pause_s=send.first_pause_s,
        longest_pause_s=send.longest_pause_s,
        refusal_pause_s=send.refusal_pause_s,
        study_patience_s=send.study_patience_h * 3600.0,
        commitment=send.commitment,
        issuers=Issuers.parse(send.same_issuers, compared=send.compare_issuers),
        keep_done_s=None if send.keep_done_days is None else send.keep_done_days * 86_400.0,
    )
    return Outbox.open(outbox_folder(settings), policy)


def outbox_folder(settings: Settings) -> Path:
    """Where the outbox lies."""
    return Path(settings.send.outbox).expanduser() if settings.send.outbox else settings.run.work / OUTBOX


def folder_settings(settings: Settings, paths: tuple[Path, ...]) -> ArchiveSettings:
    """Files and folders as an archive."""
    from dicom_io.opening import ArchiveSettings

    return ArchiveSettings(paths=paths, max_object_mb=settings.archive.max_object_mb)


def mine_settings(settings: Settings) -> MineSettings:
    """How to mine; the digest changes with whatever decides outcomes: rules, the size limit, the program's version."""
    from importlib.metadata import version

    from deeplesion_miner.miner import MineSettings

    deciding = {
        "version": version("deeplesion-miner"),
        "max_object_mb": settings.archive.max_object_mb,
        **asdict(settings.rules),
    }
    digest = hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:16]
    return MineSettings(settings.rules, settings.run.workers, digest)


def knows_only_files(ledger: SqliteLedger) -> bool:
    """True where every run so far read files, so that nothing was moved over a network."""
    return all(run["command"] == "import" for run in ledger.runs())


def studies_under_other_settings(settings: Settings, ledger: SqliteLedger) -> int:
    """Studies of the ledger that were mined when other settings, or another version, decided."""
    by_settings = ledger.studies_by_settings()
    return sum(by_settings.values()) - by_settings.get(mine_settings(settings).digest, 0)


def build_settings(settings: Settings) -> BuildSettings:
    """How the dataset is made."""
    from deeplesion_miner.dataset import BuildSettings
    from deeplesion_miner.deidentify import DeidentifyOptions

    section = settings.deidentification
    return BuildSettings(settings.rules, DeidentifyOptions(section.age_cap_years, section.issuer_is_identity))


def writer_settings(settings: Settings, pseudonyms: Pseudonyms) -> WriterSettings:
    """What the manifest says beyond the records; the token is a keyed hash that depends on the key alone."""
    from dataset_builder.writer import WriterSettings

    return WriterSettings(key_token=pseudonyms.token("dataset"), box_margin_px=settings.rules.box_padding_px)
