"""An hour of small objects into the node: are its memory and its descriptors flat at the end?

    python -m tests.experiments.soak [--objects 100000] [--minutes 60] [--keep FOLDER]

`mine serve` runs in a process of its own. Another process sends at a constant rate over short associations of 50
objects each, our own sender and DCMTK's storescu side by side, and among them does what peers do: C-ECHO by DCMTK,
C-FIND, storage commitment, associations that are aborted in the middle of an object, connections that never say a
word, the same object twice, oversized PDUs. Every ten seconds resident memory, descriptors and threads are read from
/proc. At the end every object that was answered 0000 must be in the journal and in the store.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
)

from dicom_io.address import Address
from dicom_io.node.journal import Journal
from dicom_io.object_file import ObjectFile
from dicom_io.sending import StoreSender
from dicom_io.store import ObjectStore
from tests.experiments.node_world import (
    ECHOSCU,
    LOOPBACK,
    NODE_AE,
    RunningNode,
    SmallObjects,
    running_node,
    storescu,
    write_rules,
)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "experiments" / "soak.md"
PICTURE = PAGE.parents[1] / "pictures" / "soak.png"
OBJECT_BYTES = SmallObjects().one(0, 0, 0).size_bytes()
PER_ASSOCIATION, PER_STUDY, PER_SERIES = 50, 100, 20
SAMPLE_S = 10.0
SETTLED = 0.2
"""The first part of the run is not part of the slope: caches fill, modules are imported."""
COLUMNS = ("seconds", "resident_bytes", "descriptors", "threads")


@dataclass(frozen=True)
class Slope:
    """A straight line through samples."""

    per_hour: float
    first: float
    last: float
    least: float
    most: float


def slope(samples: Sequence[Sequence[float]], column: int) -> Slope:
    """Least squares over the settled part of the run; means of its first and last tenth."""
    table = np.array(samples, np.float64)
    settled = table[table[:, 0] >= SETTLED * table[-1, 0]]
    values = settled[:, column]
    tenth = max(len(values) // 10, 1)
    per_s = float(np.polyfit(settled[:, 0], values, 1)[0]) if len(values) > 1 else 0.0
    return Slope(3600 * per_s, float(values[:tenth].mean()), float(values[-tenth:].mean()), float(values.min()),
                 float(values.max()))  # fmt: skip


# --- the sending process -----------------------------------------------------------------------------------


def send(port: int, count: int, seconds: float, acknowledged: Path) -> None:
    """Sends `count` objects at a constant rate and writes down each UID that was answered with success."""
    objects, began_s, tally, lock = SmallObjects(), time.monotonic(), Counter[str](), threading.Lock()

    def work(way: str, first: int) -> None:
        with (acknowledged.parent / f"{acknowledged.name}.{way}").open("w") as file:
            for start in range(first, count, 2 * PER_ASSOCIATION):
                time.sleep(max(began_s + start * seconds / count - time.monotonic(), 0.0))
                batch = [objects.one(number, number // PER_STUDY, number // PER_SERIES)
                         for number in range(start, min(start + PER_ASSOCIATION, count))]  # fmt: skip
                said, succeeded = WAYS[way](port, batch, acknowledged.parent / way)
                file.writelines(f"{uid}\n" for uid in succeeded)
                turn = Counter[str]()
                _disturb(port, start // PER_ASSOCIATION, batch[0].sop_class_uid, batch[0].sop_instance_uid, turn)
                with lock:
                    tally.update(said + turn)

    threads = [threading.Thread(target=work, args=[way, number * PER_ASSOCIATION]) for number, way in enumerate(WAYS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    files = sorted(acknowledged.parent.glob(f"{acknowledged.name}.*"))
    acknowledged.write_text("".join(one.read_text() for one in files))
    print(json.dumps(tally))


def _by_ours(port: int, batch: Sequence[ObjectFile], folder: Path) -> tuple[Counter[str], list[str]]:
    """By our own sender; the first object twice."""
    with StoreSender(Address(NODE_AE, LOOPBACK, port), "SENDER") as sender:
        answers = list(sender.send([*batch, batch[0]]))
    said = Counter("none" if one.status is None else f"{one.status:04X}" for one in answers)
    return said, [one.sop_instance_uid for one in answers if one.status == 0]


def _by_dcmtk(port: int, batch: Sequence[ObjectFile], folder: Path) -> tuple[Counter[str], list[str]]:
    sent = storescu(port, batch, folder)
    said = Counter({"0000": len(sent.succeeded), "refused": sent.refused, "none": sent.unanswered})
    return +said, list(sent.succeeded)


WAYS = {"ours": _by_ours, "dcmtk": _by_dcmtk}


def _disturb(port: int, turn: int, sop_class_uid: str, uid: str, tally: Counter[str]) -> None:
    """One of the other things that peers do, in turn."""
    what = ("nothing", "echo", "find", "commit", "abort", "silent", "oversized")[turn % 7]
    tally[f"disturbance: {what}"] += 1
    if what == "echo":
        done = subprocess.run([ECHOSCU, "-aet", "SENDER", "-aec", NODE_AE, LOOPBACK, str(port)])
        tally["echo answered" if done.returncode == 0 else "echo failed"] += 1
    elif what == "silent":
        with socket.create_connection((LOOPBACK, port)) as connection:
            connection.send(b"\x01\x00")
    elif what in ("find", "commit", "abort", "oversized"):
        _associated(port, what, sop_class_uid, uid, tally)


def _associated(port: int, what: str, sop_class_uid: str, uid: str, tally: Counter[str]) -> None:
    entity = AE(ae_title="SENDER")
    for service in (StudyRootQueryRetrieveInformationModelFind, StorageCommitmentPushModel, sop_class_uid):
        entity.add_requested_context(service)
    association = entity.associate(LOOPBACK, port, ae_title=NODE_AE)
    if not association.is_established:
        tally[f"{what}: no association"] += 1
        return
    if what == "find":
        keys = Dataset()
        keys.QueryRetrieveLevel, keys.StudyInstanceUID = "STUDY", ""
        answers = list(association.send_c_find(keys, StudyRootQueryRetrieveInformationModelFind))
        tally[f"find {answers[-1][0].get('Status', -1):04X}"] += 1
    if what == "commit":
        item, information = Dataset(), Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class_uid, uid
        information.TransactionUID, information.ReferencedSOPSequence = f"{uid}.1", [item]
        status, _ = association.send_n_action(
            information, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        tally[f"commit {status.get('Status', -1):04X}"] += 1
    if what in ("abort", "oversized"):
        length = 100_000 if what == "abort" else 2**31
        with suppress(OSError):  # half of a PDU, or the header of one that is too large
            association.dul.socket.socket.sendall(struct.pack(">BBL", 4, 0, length) + bytes(1000))
        association.abort()
        return
    association.release()


# --- the run -----------------------------------------------------------------------------------------------


def run(count: int, minutes: float, folder: Path) -> dict[str, object]:
    """The soak; what it found, ready for the page."""
    rules = write_rules(folder / "rules.toml", "SENDER", "STORESCU")
    acknowledged, samples_file = folder / "acknowledged.txt", folder / "samples.csv"
    with running_node(folder / "work", rules) as node:
        command = [sys.executable, "-m", "tests.experiments.soak", "--send", str(node.port), "--objects", str(count),
                   "--minutes", str(minutes), "--keep", str(acknowledged)]  # fmt: skip
        sender = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        samples = _sampled(node, sender, samples_file)
        said = sender.communicate()[0]
        metrics = node.page("metrics")[1]
        peak = node.peak_bytes()
        code = node.kill(signal.SIGTERM)
    uids = set(acknowledged.read_text().split())
    journal = Journal(folder / "work" / "node")
    in_journal = journal.object_uids()
    journal.close()
    store = ObjectStore(folder / "work" / "node" / "objects")
    return {
        "objects": count,
        "minutes": round(samples[-1][0] / 60, 1),
        "sender": json.loads(said.strip().splitlines()[-1]) if said.strip() else {"failed": sender.returncode},
        "acknowledged": len(uids),
        "lost": len(uids - in_journal) + sum(1 for uid in uids if not store.has(uid)),
        "exit": code,
        "peak_mb": round(peak / 1e6, 1),
        "samples": len(samples),
        "slopes": {name: vars(slope(samples, column)) for column, name in enumerate(COLUMNS) if column},
        "metrics": [line for line in metrics.splitlines() if not line.startswith("#")],
    }


def _sampled(node: RunningNode, sender: subprocess.Popen[str], file: Path) -> list[tuple[float, ...]]:
    samples: list[tuple[float, ...]] = []
    began_s = time.monotonic()
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        while sender.poll() is None:
            row = (round(time.monotonic() - began_s, 1), node.resident_bytes(), node.descriptors(), node.threads())
            samples.append(row)
            writer.writerow(row)
            stream.flush()
            with suppress(subprocess.TimeoutExpired):
                sender.wait(SAMPLE_S)
    return samples


def page(found: Mapping[str, Any], command: str, commit: str, note: str) -> str:
    """The page of the experiment, from what `run` found."""
    said, slopes = found["sender"], found["slopes"]
    disturbances = ", ".join(f"{count} x {name.partition(': ')[2]}" for name, count in sorted(said.items())
                             if name.startswith("disturbance"))  # fmt: skip
    answers = ", ".join(f"{count:,} x {name}" for name, count in sorted(said.items()) if len(name) == 4)
    method = " ".join((__doc__ or "").split("\n\n")[2].split())
    units = {
        "resident_bytes": (1e6, "resident memory, MB"),
        "descriptors": (1, "descriptors"),
        "threads": (1, "threads"),
    }
    rows = [
        f"| {title} | {one['first'] / unit:.1f} | {one['last'] / unit:.1f} | {one['least'] / unit:.1f} |"
        f" {one['most'] / unit:.1f} | {one['per_hour'] / unit:+.2f} |"
        for name, (unit, title) in units.items()
        for one in [slopes[name]]
    ]
    return "\n".join(
        [
            "# An hour of small objects",
            "",
            "**Question.** Do resident memory and file descriptors of `mine serve` stay flat while objects come in"
            " without an end and peers misbehave?",
            "",
            f"**Method.** {method}",
            "",
            f"**Run it.** `{command}` (commit {commit}; nothing is random but the machine's timing, and the machine had"
            " other work to do).",
            "",
            f"**Result.** {found['objects']:,} objects of {OBJECT_BYTES:,} bytes in {found['minutes']} minutes,"
            f" answers: {answers}. {found['lost']} lost of {found['acknowledged']:,} that were answered 0000. The"
            f" process ended with exit code {found['exit']}; its peak was {found['peak_mb']} MB.",
            "",
            "| over the last 80 % of the run | first tenth | last tenth | least | most | slope per hour |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            note,
            "",
            f"Among the objects: {disturbances}.",
            "",
            f"![memory and descriptors over the hour](../pictures/{PICTURE.name})",
            "",
        ]
    )


def draw(samples: Path, path: Path) -> None:
    """Memory, descriptors and threads over time."""
    from matplotlib.figure import Figure

    with samples.open() as stream:
        table = np.array([[float(cell) for cell in row] for row in list(csv.reader(stream))[1:]])
    figure = Figure(figsize=(7.5, 3.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    minutes = table[:, 0] / 60
    above.plot(minutes, table[:, 1] / 1e6, color="tab:blue", linewidth=1)
    above.set_ylim(0, 1.3 * table[:, 1].max() / 1e6)
    above.set_ylabel("resident, MB")
    below.plot(minutes, table[:, 2], color="tab:orange", linewidth=1, label="descriptors")
    below.plot(minutes, table[:, 3], color="tab:green", linewidth=1, label="threads")
    below.set_ylim(0, 1.4 * table[:, 2].max())
    below.set_xlabel("minutes")
    below.legend(loc="upper right", ncols=2, fontsize="small", frameon=False)
    figure.savefig(path, dpi=110)


def main(arguments: Sequence[str]) -> int:
    """Runs the soak and prints what it found as JSON; 1 where an object was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.experiments.soak", description=__doc__)
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--send", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--page", nargs=4, metavar=("FOUND.json", "SAMPLES.csv", "COMMIT", "NOTE"),
                        help="write page and picture of an earlier run; NOTE says what they mean")  # fmt: skip
    options = parser.parse_args(arguments)
    if options.page:
        found = json.loads(Path(options.page[0]).read_text())
        PAGE.write_text(page(found, "python -m tests.experiments.soak", *options.page[2:]))
        draw(Path(options.page[1]), PICTURE)
        return 0
    if options.send is not None:
        send(options.send, options.objects, 60 * options.minutes, options.keep)
        return 0
    folder = options.keep or Path(tempfile.mkdtemp(prefix="soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    found = run(options.objects, options.minutes, folder)
    print(json.dumps(found, indent=1))
    if options.keep is None:
        shutil.rmtree(folder)
    return 1 if found["lost"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
