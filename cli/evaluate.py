"""`mine evaluate`: how good are predictions, by the public protocol and with intervals?"""

from __future__ import annotations

from pathlib import Path

import click

from cli.config import Configuration
from cli.dataset_options import open_dataset, splits_text, table_option
from cli.exits import Exit
from cli.finding import tell_if_unfinished
from cli.options import command as make_command
from cli.output import Output, notice
from cli.places import check_writable

EXAMPLE = """
mine evaluate dataset --predictions predictions.parquet
mine evaluate DeepLesion --predictions mine.parquet --against theirs.parquet --boxes padded --out comparison
"""
FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@make_command("evaluate", EXAMPLE)
@click.argument("dataset", type=click.Path(path_type=Path, exists=True, file_okay=False))
@table_option
@click.option("--predictions", type=FILE, required=True, metavar="FILE", help="What `mine predict` wrote.")
@click.option("--against", type=FILE, multiple=True, metavar="FILE",
              help="Other predictions of the same slices: paired differences; may be repeated.")  # fmt: skip
@click.option("--split", type=click.Choice(["train", "val", "test", "all"]), default="test", show_default=True,
              help="Which patients.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), default=Path("evaluation"), show_default=True,
              metavar="FOLDER", help="Where to write record, curves, plot and page.")  # fmt: skip
@click.option("--boxes", type=click.Choice(["tight", "padded"]), default="tight", show_default=True,
              help="Boxes of the axes' ends, or the dataset's with their margin, as published.")  # fmt: skip
@click.option("--criterion", type=click.Choice(["iou", "iobb", "iobbgt"]), default="iou", show_default=True,
              help="What the common area is divided by: union, detection, the smaller of both.")  # fmt: skip
@click.option("--iou", "threshold", type=click.FloatRange(0, 1, min_open=True), default=0.5, show_default=True,
              help="Least overlap of a hit.")  # fmt: skip
@click.option("--p3d", is_flag=True, help="Count detections of the series whose 3-D mask reaches the key slice.")
@click.option("--keep-noisy", is_flag=True, help="Count marks flagged possibly noisy, too.")
@click.option("--annotation", type=FILE, metavar="FILE",
              help="CSV file_name,annotation: complete, partial or unmarked; default: key slices partial.")  # fmt: skip
@click.option("--known", type=FILE, metavar="FILE",
              help="CSV file_name,x_min,y_min,x_max,y_max,kind of known non-lesions.")  # fmt: skip
@click.option("--score", "scores", type=click.FloatRange(0, 1), multiple=True,
              help="Tell these shares from this score on, too; may be repeated.")  # fmt: skip
@click.option("--masks", type=FILE, metavar="FILE",
              help="Reference masks (Parquet) to compare predicted masks with.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the bootstrap over patients.")
@click.option("--replicates", type=click.IntRange(1), default=1000, show_default=True, help="Of the bootstrap.")
def command(
    configuration: Configuration,
    output: Output,
    dataset: Path,
    table: str | None,
    predictions: Path,
    against: tuple[Path, ...],
    split: str,
    out: Path,
    boxes: str,
    criterion: str,
    threshold: float,
    p3d: bool,
    keep_noisy: bool,
    annotation: Path | None,
    known: Path | None,
    scores: tuple[float, ...],
    masks: Path | None,
    seed: int,
    replicates: int,
) -> Exit:
    """Compare predictions with the marks of a dataset.

    Writes evaluation.json, curves.csv, froc.png and evaluation.html, a page that needs nothing else. Detections on
    slices that nobody annotated are told apart and never count. Ends with exit code 4 where the split has no marks.
    """
    from models.evaluation.cases import counted_slices, read_annotation
    from models.evaluation.evaluate import Extras, evaluate
    from models.evaluation.intervals import Draws
    from models.evaluation.kinds import read_known
    from models.evaluation.overlap import Criterion, Space
    from models.evaluation.protocol import Boxes, Protocol
    from models.evaluation.record import record, summary
    from models.evaluation.writing import PAGE, read, write
    from models.predictions_table import read_reference_masks

    protocol = Protocol(
        boxes=Boxes(boxes),
        space=Space.PSEUDO_VOLUME if p3d else Space.PLANE,
        criterion=Criterion(criterion.upper()),
        threshold=threshold,
        drop_noisy=not keep_noisy,
    )
    check_writable("--out", out)
    for path in (predictions, *against):
        tell_if_unfinished(path)
    folder = open_dataset(dataset, table)
    slices = counted_slices(folder, split, protocol, read_annotation(annotation) if annotation else {})
    if not slices.marks:
        there = splits_text(one for one in folder.key_slices if one.marks)
        advice = "" if split == "all" else f"; there are {there}: name one by --split, or all"
        notice(f"{dataset}: no marks in the split {split!r}{advice}")
        return Exit.NOTHING_MATCHED
    extras = Extras(
        known=read_known(known, folder) if known else (),
        scores=scores,
        references=read_reference_masks(masks) if masks else (),
    )
    ours, *others = read([predictions, *against])
    found = evaluate(folder, slices, ours, protocol, Draws(seed, replicates), others, extras)
    write(found, folder, out)
    output.record("evaluation", record(found, folder), summary(found))
    notice(f"look at {out / PAGE}")
    return Exit.DONE
