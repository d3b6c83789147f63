"""`mine place`: where in the body the lesions of a dataset lie."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from cli.config import Configuration
from cli.dataset_options import open_dataset, table_option
from cli.exits import Exit
from cli.options import command as make_command
from cli.output import Output, notice, plural
from cli.places import check_writable

EXAMPLE = """
mine place body dataset --out heights.csv            # after: mine train dataset --recipe body-part --out body
"""
COLUMNS = ("series", "first", "last", "z_first", "z_last", "slope", "findings")


@make_command("place", EXAMPLE)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("dataset", type=click.Path(path_type=Path))
@table_option
@click.option("--out", type=click.Path(path_type=Path), default=Path("heights.csv"), show_default=True, metavar="FILE",
              help="Where to write the height of each lesion (CSV).")  # fmt: skip
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True,
              help="Where to compute.")  # fmt: skip
def command(
    configuration: Configuration, output: Output, model: Path, dataset: Path, table: str | None, out: Path, device: str
) -> Exit:
    """Tell the height of lesions in the body.

    The height is z of DeepLesion's Normalized_lesion_location, 0 at the head and 1 at the thighs. Series whose
    slices seem to run the wrong way, or cannot be placed, are named with the reason.
    """
    from models.placing import load_regressor, place_dataset, write_heights

    check_writable("--out", out.parent)
    folder = open_dataset(dataset, table)
    regressor = load_regressor(model, device)
    placed = list(place_dataset(regressor, folder))
    if not placed:
        notice(f"nothing matched: {dataset} has no key slices")
        return Exit.NOTHING_MATCHED
    marks = write_heights(out, placed, regressor.model_id)
    rows = []
    for one in placed:
        z = one.placement.normalized_z
        rows.append((one.series, *one.slices, z[0], z[-1], one.placement.slope, ";".join(one.findings)))
    output.table("placement", COLUMNS, rows)
    for finding, count in Counter(finding for one in placed for finding in one.findings).items():
        notice(f"{plural(count, 'range')} {finding}: {finding.message}; {finding.advice}")
    notice(f"{plural(marks, 'lesion')} placed: {out}")
    return Exit.DONE
