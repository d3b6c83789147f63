"""`mine check`: is a dataset what its manifest says?"""

from __future__ import annotations

from pathlib import Path

import click

from cli.config import Configuration
from cli.exits import Exit
from cli.options import command as make_command
from cli.output import Output, notice

EXAMPLE = """
mine check dataset
mine check dataset --json && rsync -a dataset/ elsewhere:/data/
"""


@make_command("check", EXAMPLE)
@click.argument("dataset", type=click.Path(path_type=Path))
def command(configuration: Configuration, output: Output, dataset: Path) -> Exit:
    """Recompute every hash, sum and box of a dataset.

    Ends with exit code 6 and one line a finding where anything differs.
    """
    from dataset_builder.manifest import read_manifest
    from dataset_builder.verify import check

    findings = check(dataset)
    if findings:
        output.table("finding", ("where", "text"), [(finding.where, finding.text) for finding in findings])
        notice(f"{dataset}: {len(findings)} findings; write the dataset again from its working folder")
        return Exit.VERIFICATION_FAILED
    manifest = read_manifest(dataset)
    values = {"dataset": dataset, "files": len(manifest.files), "digest": manifest.digest}
    output.record("check", values, f"{dataset}: sound ({len(manifest.files):,} files, digest {manifest.digest})")
    return Exit.DONE
