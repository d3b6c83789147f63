"""`mine train`: a model from a dataset."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.config import Configuration
from cli.dataset_options import open_dataset, table_option
from cli.exits import Exit
from cli.options import command as make_command
from cli.output import Output, notice
from cli.progress import stopping_politely

if TYPE_CHECKING:
    from models.recipe import Recipe
    from models.training.fit import Fitted

EXAMPLE = """
mine train --recipes                                    # what can be trained
mine train --show-recipe > my-recipe.toml               # a file to change
mine train dataset --out model                          # five CPU minutes; goes on if it was stopped before
mine train dataset --recipe lesionnet-xs-9 --with training.steps=100 --out quick
mine train /data/DeepLesion --recipe my-recipe.toml --out model --device cuda --loaders 8
torchrun --nproc-per-node 4 --no-python mine train dataset --out model     # on four GPUs
"""
DEFAULT_RECIPE = "lesionnet-s-9"


@make_command("train", EXAMPLE)
@click.argument("dataset", type=click.Path(path_type=Path), required=False)
@table_option
@click.option(
    "--recipe",
    "recipe_name",
    default=DEFAULT_RECIPE,
    show_default=True,
    metavar="NAME|FILE.toml",
    help="What to train and how; --recipes lists those that come with mine.",
)
@click.option("--out", type=click.Path(path_type=Path), default=Path("model"), show_default=True, help="Model folder.")
@click.option(
    "--with",
    "changes",
    multiple=True,
    metavar="SECTION.NAME=VALUE",
    help="Change the recipe, e.g. training.steps=100; may be repeated.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Seed of weights and batches: training.seed of the recipe.")
@click.option("--device", type=click.Choice(("auto", "cpu", "cuda")), default="auto", show_default=True)
@click.option("--weights", type=click.Path(path_type=Path), help="VGG-16 weights that a 'seed' recipe starts from.")
@click.option(
    "--loaders", type=click.IntRange(min=0), default=0, show_default=True, help="Processes that make batches."
)
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Keep decoded slices there (blosc2), to read them faster.",
)
@click.option("--resume/--fresh", default=True, show_default=True, help="Go on where it was stopped, or start anew.")
@click.option("--exact", is_flag=True, help="Refuse to go on where the last bits could differ (other torch, CPU ...).")
@click.option("--onnx", is_flag=True, help="Write the model as ONNX, too, and compare it with torch.")
@click.option("--show-recipe", is_flag=True, help="Show the recipe with every value, as TOML, and train nothing.")
@click.option("--recipes", "list_recipes", is_flag=True, help="List the recipes that come with mine.")
def command(
    configuration: Configuration,
    output: Output,
    dataset: Path | None,
    recipe_name: str,
    out: Path,
    changes: tuple[str, ...],
    seed: int | None,
    weights: Path | None,
    show_recipe: bool,
    list_recipes: bool,
    **how: Any,
) -> Exit:
    """Train a model on a dataset.

    The dataset is one that was mined, or NIH DeepLesion's own folder (DL_info.csv and Images_png).

    The model folder holds weights, recipe, figures, curves and a card. Until the model is whole, checkpoints and
    metrics.jsonl lie beside it in OUT.training; the same command goes on from there, to the bit. For research, not
    for diagnosis.
    """
    if list_recipes:
        return _list_recipes(output)
    if dataset is None and not show_recipe:
        raise click.UsageError("name the dataset to train on, or list the recipes by --recipes")
    from models import recipe as recipes

    overrides = [*changes]
    if seed is not None:
        overrides.append(f"training.seed={seed}")
    if weights is not None:
        overrides.append(f"model.weights='{weights}'")
    recipe = recipes.load(recipe_name, overrides)
    if show_recipe or dataset is None:
        output.record("recipe", recipe.to_json(), recipe.to_toml().rstrip())
        return Exit.DONE
    return _train(output, dataset, recipe, out, **how)


def _train(
    output: Output,
    dataset: Path,
    recipe: Recipe,
    out: Path,
    *,
    table: str | None,
    cache: Path | None,
    device: str,
    loaders: int,
    resume: bool,
    exact: bool,
    onnx: bool,
) -> Exit:
    from models.training.places import check_out

    check_out(out, fresh=not resume)
    opened = open_dataset(dataset, table, cache)
    from models.training.fit import fit  # brings torch, whose seconds a refusal need not wait for

    with (
        closing(TrainingBar()) as bar,
        stopping_politely(lambda: bar.has_begun, "step", (signal.SIGINT, signal.SIGTERM)) as should_stop,
    ):
        fitted = fit(
            opened,
            recipe,
            out,
            device=device,
            fresh=not resume,
            exact=exact,
            loaders=loaders,
            onnx=onnx,
            progress=bar,
            should_stop=should_stop,
        )
    if fitted.trained.interrupted:
        again = "the same command again" if resume else "the same command without --fresh"
        notice(f"stopped after step {fitted.trained.steps_done:,} of {recipe.training.steps:,}; run {again} to go on")
        return Exit.INTERRUPTED
    _say(output, fitted)
    return Exit.DONE


def _say(output: Output, fitted: Fitted) -> None:
    model = fitted.model
    if model is None:  # the leading process of several says it
        return
    figures = model.metrics["validation"]
    told = {
        "model": f"{model.path}  {model.model_id}",
        "card": str(model.path / "README.md"),
        "steps": f"{model.metrics['steps_done']:,}; the weights are those after step {model.metrics['best_step']:,}",
    }
    told |= {name: f"{value:.4g}" for name, value in figures.items() if value is not None}
    width = max(map(len, told))
    text = [f"{name:<{width}}  {value}" for name, value in told.items()]
    if not figures:
        text.append("nothing was validated: the dataset has no key slice in the validation split")
    values = {"model": model.path, "model_id": model.model_id, "dataset_digest": model.dataset_digest}
    output.record("model", {**values, **model.metrics}, "\n".join(text))


def _list_recipes(output: Output) -> Exit:
    from models import recipe as recipes

    known = [recipes.load(name) for name in recipes.names()]
    output.table("recipe", ("recipe", "kind", "meaning"), [(one.name, one.kind, one.meaning) for one in known])
    return Exit.DONE


class TrainingBar:
    """`models.training.progress.Progress` as a tqdm bar on stderr; validations as lines."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self._bar: Any = tqdm(total=0, unit="step", desc="training", file=sys.stderr, disable=None, leave=False)
        self.has_begun = False
        """True once steps are taken: from then on a stop waits for the current one."""

    def began(self, steps_done: int, steps: int) -> None:
        """Sets the bar's length."""
        if steps_done:
            self.noticed(f"going on after step {steps_done:,} of {steps:,}")
        self.has_begun = True
        self._bar.reset(total=steps)
        self._bar.initial = steps_done
        self._bar.update(steps_done)

    def stepped(self, steps_done: int, losses: Mapping[str, float]) -> None:
        """One step on."""
        self._bar.set_postfix_str(f"loss {losses['loss']:.4g}", refresh=False)
        self._bar.update(steps_done - self._bar.n if not self._bar.disable else 0)

    def validated(self, steps_done: int, figures: Mapping[str, float], is_best: bool) -> None:
        """One line with all figures."""
        told = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
        self.noticed(f"step {steps_done:,}: {told}{' (best so far)' if is_best else ''}")

    def noticed(self, text: str) -> None:
        """One line above the bar."""
        self._bar.clear()
        notice(text)

    def close(self) -> None:
        """Removes the bar."""
        self._bar.close()
