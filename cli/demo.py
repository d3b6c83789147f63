"""`mine demo`: the whole way, with phantom patients in an archive of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from cli import wiring
from cli.config import Configuration
from cli.exits import Exit
from cli.mining import mine_and_build
from cli.options import command as make_command
from cli.output import Output, notice
from deeplesion_miner.errors import ConfigError

EXAMPLE = """
mine demo
mine demo --out /tmp/demo --small
"""


@make_command("demo", EXAMPLE)
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, metavar="FOLDER",
              help="Where to write archive, working folder and dataset.")  # fmt: skip
@click.option("--small", is_flag=True, help="Small images, short series, a short training: for a quick look.")
@click.option("--train/--no-train", default=None, help="Train a small detector, too (about a minute).  [default: where"
              " the extra 'models' is installed]")  # fmt: skip
def command(configuration: Configuration, output: Output, out: Path, small: bool, train: bool | None) -> Exit:
    """Mine phantom patients and learn from them.

    Nothing else is needed. Writes an archive of phantom CT with reports as three programs write them, serves it on
    loopback, mines it over the network as any archive, and checks the dataset. Broken reports are among them, as in
    real archives; they are counted, not an error. Then a small detector is trained on the dataset, looks at a
    patient whom nobody measured, and what it finds goes back to the archive as reports and a segmentation.
    """
    from cli import demo_models
    from dataset_builder.verify import check
    from deeplesion_miner.studies import StudyQuery
    from dicom_io.testbed.embedded import EmbeddedArchive
    from dicom_io.testbed.phantoms import write_phantoms

    if train and not demo_models.can_train():
        raise ConfigError("--train needs torch and what goes with it: pip install 'deeplesion-miner[models]'")
    notice(f"drawing phantom patients into {out / 'archive'}")
    phantoms = write_phantoms(out / "archive", small=small)
    notice(f"{phantoms.images} images and {phantoms.reports} reports")
    with EmbeddedArchive(phantoms.folder) as archive:
        notice(f"serving them as {archive.address}: mine run {archive.address} --out {out / 'dataset'}")
        settings = replace(
            configuration.settings,
            archive=replace(configuration.settings.archive, address=archive.address, method="get"),
            run=replace(configuration.settings.run, out=out / "dataset", work=out / "work"),
        )
        code = mine_and_build("demo", settings, wiring.archive_settings(settings), StudyQuery(), output)
    findings = check(out / "dataset")
    for finding in findings:
        notice(str(finding))
    if findings:
        return Exit.VERIFICATION_FAILED
    notice(f"checked: every hash, sum and box of {out / 'dataset'} holds")
    if train or (train is None and demo_models.can_train()):
        demo_models.train_and_look(configuration, output, out, small)
    elif train is None:
        notice("no model is trained: that needs pip install 'deeplesion-miner[models]'")
    notice(f"look at {out / 'dataset' / 'report.html'} and {out / 'dataset' / 'contact_sheet.png'}")
    return Exit.DONE if code == Exit.PARTIAL else code
