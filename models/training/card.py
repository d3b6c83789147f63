"""The model card: what a model is, what it was trained on, what it may be used for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from models.recipe import Recipe

INTENDED_USE = (
    "Research on lesion detection and measurement in CT. **Not a medical device and not for diagnosis**: nothing that"
    " this model says may decide on the care of a patient."
)
LIMITS = (
    "Trained on one dataset, whose marks are those lesions that somebody chose to measure: what it finds is what was"
    " measured there, and what nobody measured it learned as background. Its scores are comparable within this model"
    " only. On other scanners, protocols and patients it is untested."
)
TASKS = {
    "lesionnet": "Lesion detection on axial CT slices with their neighbours: box, RECIST axes, mask",
    "seed": "Lesion detection on axial CT slices with their neighbours: box",
    "delineator": "Lesion masks from RECIST axes on axial CT slices",
    "body-part": "Place of an axial CT slice along the body",
}


def text(recipe: Recipe, model_id: str, metrics: Mapping[str, Any]) -> str:
    """The card as Markdown; the fields of a MONAI bundle's metadata have their names."""
    sections = recipe.to_json()
    values = [
        f"| {section}.{name} | {_plain(value)} |"
        for section in ("model", "data", "augmentation", "training")
        for name, value in sections[section].items()
    ]
    figures = [f"| {name} | {value} |" for name, value in metrics["validation"].items()]
    data = [
        f"| {split} | {one['patients']:,} | {one['key_slices']:,} | {one['marks']:,} |"
        for split, one in metrics["dataset"]["splits"].items()
    ]
    fields = {
        "version": f"deeplesion-miner {metadata.version('deeplesion-miner')}",
        "task": TASKS.get(recipe.kind, recipe.kind),
        "description": recipe.meaning or recipe.name,
        "data_source": f"dataset with digest {metrics['dataset']['digest']}",
        "data_type": "CT, Hounsfield units",
        "pytorch_version": metrics["environment"]["torch"],
        "seed": recipe.training.seed,
        "trained_splits": ", ".join(recipe.data.train_splits),
        "validated_splits": ", ".join(recipe.data.validation_splits),
        "steps": f"{metrics['steps_done']}; the weights are those after step {metrics['best_step']}",
    }
    lines = [
        f"# {model_id}",
        "",
        "| | |",
        "| --- | --- |",
        *(f"| {name} | {value} |" for name, value in fields.items()),
        "",
        "## intended_use",
        "",
        INTENDED_USE,
        "",
        "## Limits",
        "",
        LIMITS,
        "",
        "## Data",
        "",
        "| split | patients | key slices | marks |",
        "| --- | --- | --- | --- |",
        *data,
        "",
        "## eval_metrics",
        "",
        *(
            [
                "On the validation split, which also chose the weights:",
                "",
                "| figure | value |",
                "| --- | --- |",
                *figures,
            ]
            if figures
            else ["Nothing was validated: the dataset has no validation split."]
        ),
        "",
        "## Recipe",
        "",
        "| setting | value |",
        "| --- | --- |",
        *values,
        "",
        "## Environment of the training",
        "",
        *(f"- {name}: {value}" for name, value in metrics["environment"].items()),
    ]
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> str:
    """A recipe's value as a recipe writes it."""
    return json.dumps(value) if isinstance(value, bool | list | tuple) else str(value)
