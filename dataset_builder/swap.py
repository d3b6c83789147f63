"""Replaces a dataset folder as a whole: a reader finds the old one or the new one, never a mixture.

The new folder is built beside the old one under a hidden name, its manifest written last. Then the old one steps
aside and the new one takes its name. Names beside `DATASET`:

  .DATASET.building   being built; worthless without a manifest
  .DATASET.old        stepped aside; not yet replaced, or files of other people still to be taken over
  .DATASET.trash      replaced, being deleted
  .DATASET.lock       held by the one process that writes

Whatever instant a process is killed at, `recover` finishes or undoes the swap from the names alone.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dataset_builder.durable import sync_folder
from dataset_builder.layout import MANIFEST
from dataset_builder.manifest import read_any_version
from deeplesion_miner.errors import ConfigError, LedgerInUse, VerificationFailed


class DatasetInUse(LedgerInUse):
    """Another process writes the dataset."""


def building(folder: Path) -> Path:
    """Where the next state of a dataset is built."""
    return folder.parent / f".{folder.name}.building"


def _old(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.old"


def _trash(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.trash"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keeps other processes from writing this dataset; raises DatasetInUse where one does.

    The kernel lets go when the process ends, so a file that was left behind holds nobody up.
    """
    lock = folder.parent / f".{folder.name}.lock"
    descriptor = _locked(lock, folder)
    try:
        try:
            yield
        finally:
            lock.unlink()
    finally:
        os.close(descriptor)


def _locked(lock: Path, folder: Path) -> int:
    """The descriptor of the locked file that bears the lock's name now."""
    while True:
        descriptor = os.open(lock, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise DatasetInUse(
                f"{folder}: another `mine` writes this dataset; wait until it ends, or name another --out"
            ) from None
        if _is_file_of(descriptor, lock):
            return descriptor
        os.close(descriptor)  # its holder removed it between our opening and our locking


def _is_file_of(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def enclosing_dataset(path: Path) -> Path | None:
    """The dataset of this tool, of any schema version, that `path` lies in; None where there is none."""
    for folder in path.resolve().parents:
        if (folder / MANIFEST).is_file():
            try:
                read_any_version(folder)
            except VerificationFailed:
                continue
            return folder
    return None


def refuse_foreign(folder: Path, key_token: str) -> None:
    """Raises ConfigError where `folder` is something that this run must not replace.

    That is what this tool did not write, and a dataset made with another pseudonym key.
    """
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir():
        raise ConfigError(f"{folder}: not a folder; name another place for the dataset")
    if folder.is_mount():
        raise ConfigError(
            f"{folder}: a mount point cannot be replaced as a whole; name a folder below it,"
            f" such as {folder / 'dataset'}"
        )
    if not any(folder.iterdir()):
        return
    try:
        found = read_any_version(folder)
    except VerificationFailed as error:
        raise ConfigError(
            f"{folder}: holds files but is no dataset of this tool ({error}); empty it or name another place"
        ) from error
    if found.key_token != key_token:
        raise ConfigError(
            f"{folder}: a dataset made with another pseudonym key, perhaps from another --work; name another --out,"
            " or give that key (--key-file), or delete this dataset first"
        )


def recover(folder: Path) -> None:
    """Finishes or undoes a swap that was interrupted, and removes what an interrupted build left."""
    new, old, trash = building(folder), _old(folder), _trash(folder)
    if old.exists() and not folder.exists():
        # Killed between the two renames: what was built is whole, for its manifest was there before they began.
        _rename(new if (new / MANIFEST).is_file() else old, folder)
    if old.exists():
        _finish(folder)
    for leftover in (trash, new):
        if leftover.exists():
            shutil.rmtree(leftover)


def swap(folder: Path) -> None:
    """Puts the finished build in place of the dataset; files that are not the dataset's own move over."""
    new, old = building(folder), _old(folder)
    if folder.exists() and any(folder.iterdir()):
        _rename(folder, old)
    _rename(new, folder)
    if old.exists():
        _finish(folder)


def _finish(folder: Path) -> None:
    """The new dataset is in place: takes over what others put into the old one, and deletes the old one."""
    old, trash = _old(folder), _trash(folder)
    for path in _foreign_files(old):
        target = folder / path.relative_to(old)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
            sync_folder(target.parent)
    if trash.exists():
        shutil.rmtree(trash)
    _rename(old, trash)
    shutil.rmtree(trash)


def _foreign_files(folder: Path) -> list[Path]:
    """Files that the folder's manifest does not list."""
    own = {folder / file.path for file in read_any_version(folder).files} | {folder / MANIFEST}
    return sorted(path for path in folder.rglob("*") if path not in own and not path.is_dir())


def _rename(source: Path, target: Path) -> None:
    source.replace(target)
    sync_folder(target.parent)
