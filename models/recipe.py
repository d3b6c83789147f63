"""Recipes: everything that a training depends on beside its data, as TOML; unknown names are refused."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import cattrs
from cattrs.gen import make_dict_structure_fn

from deeplesion_miner.errors import ConfigError

SUFFIX = ".toml"


@dataclass(frozen=True)
class DataRecipe:
    """How key slices become network inputs."""

    pixel_mm: float = 1.5
    """In-plane spacing of the network's grid."""
    slice_offsets_mm: tuple[float, ...] = (-12.0, -9.0, -6.0, -3.0, 0.0, 3.0, 6.0, 9.0, 12.0)
    """Slices that are seen, by distance from the key slice, 0 among them; towards the feet where positive."""
    crop_px: int = 128
    """Side of a training crop on the network's grid."""
    protocol: str = "millimetres"
    """'millimetres', or 'public' for the public loaders' neighbours, clipping and 0.8 mm/px."""
    drop_noisy: bool = True
    train_splits: tuple[str, ...] = ("train",)
    validation_splits: tuple[str, ...] = ("val",)
    lesion_share: float = 0.75
    """Share of training crops placed to hold a lesion; the others lie anywhere in the body."""


@dataclass(frozen=True)
class AugmentationRecipe:
    """What moves, mirrors and disturbs a training sample; all zero switches it off."""

    mirror_columns: float = 0.5
    """Probability of each mirroring."""
    mirror_rows: float = 0.5
    mirror_slices: float = 0.5
    rotate_deg: float = 15.0
    """Largest angle either way."""
    scale: float = 0.2
    """Sizes are multiplied by 1 - scale to 1 + scale."""
    shift_px: float = 16.0
    """Largest shift of the crop from its centre, on the network's grid."""
    key_slice_jitter: float = 0.5
    """Largest move of the key slice, in radii of the lesion's short axis, within the slices that are there."""
    hu_shift: float = 20.0
    """Largest shift of all CT numbers."""
    hu_scale: float = 0.05
    noise_hu: float = 15.0
    """Largest standard deviation of added noise."""


@dataclass(frozen=True)
class TrainingRecipe:
    """How weights are found."""

    steps: int = 1500
    batch: int = 8
    seed: int = 0
    optimizer: str = "adamw"
    """'adamw', or 'sgd' with momentum."""
    momentum: float = 0.9
    """Of 'sgd'."""
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    warm_up: float = 0.1
    """Share of the steps until the highest learning rate; then a cosine down."""
    milestones: tuple[float, ...] = ()
    """Shares of the steps after which the learning rate falls to a tenth, instead of the cosine."""
    gradient_clip: float = 10.0
    ema_decay: float = 0.995
    """Of the averaged weights, which are validated and kept; 0 keeps the last weights."""
    precision: str = "fp32"
    """'fp32', 'bf16' or 'fp16' (autocast; fp16 with loss scaling, on a GPU only)."""
    channels_last: bool = True
    threads: int = 1
    """Of torch on the CPU; results depend on it to the bit."""
    log_every: int = 1
    """Steps between two lines of the journal."""
    validate_every: int = 250
    checkpoint_every: int = 100
    patience: int = 0
    """Validations without a better score before training stops; 0 = never."""


@dataclass(frozen=True)
class Recipe:
    """One recipe: `kind` says what is trained, `model` holds that kind's own options."""

    name: str
    kind: str
    """'lesionnet', 'seed', 'delineator' or 'body-part'."""
    meaning: str = ""
    model: Mapping[str, Any] = field(default_factory=dict)
    data: DataRecipe = field(default_factory=DataRecipe)
    augmentation: AugmentationRecipe = field(default_factory=AugmentationRecipe)
    training: TrainingRecipe = field(default_factory=TrainingRecipe)

    def to_json(self) -> dict[str, Any]:
        """The recipe as plain values, for model folders and checkpoints; `from_json` reads it."""
        return asdict(self)


def names() -> tuple[str, ...]:
    """Names of the recipes that come with the tool, sorted."""
    return tuple(sorted(Path(one.name).stem for one in resources.files(__package__).joinpath("recipes").iterdir()
                        if one.name.endswith(SUFFIX)))  # fmt: skip


def load(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe by name or from a TOML file, with overrides such as 'training.steps=100'.

    ConfigError for an unknown name, a file that is no TOML, an unknown field or a value of another type.
    """
    path = Path(name_or_path)
    if path.suffix == SUFFIX:
        text = path.read_text(encoding="utf-8")
    elif name_or_path in names():
        text = resources.files(__package__).joinpath("recipes", name_or_path + SUFFIX).read_text(encoding="utf-8")
    else:
        raise ConfigError(f"no recipe {name_or_path!r}: there are {', '.join(names())}, or name a .toml file")
    try:
        values = tomllib.loads(text)
        for override in overrides:
            _override(values, override)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"recipe {name_or_path}: not TOML: {error}") from error
    return from_json({"name": path.stem, **values})


def from_json(values: Mapping[str, Any]) -> Recipe:
    """A recipe from plain values. ConfigError names every field that does not fit."""
    try:
        return _converter().structure(values, Recipe)
    except cattrs.BaseValidationError as error:
        raise ConfigError(f"recipe: {'; '.join(cattrs.transform_error(error, path='recipe'))}") from error


def _override(values: dict[str, Any], override: str) -> None:
    setting, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"{override!r} changes nothing of a recipe: write section.name=value, e.g. training.steps=100")
    *sections, name = setting.strip().split(".")
    place = values
    for section in sections:
        place = place.setdefault(section, {})
    try:
        place[name] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        place[name] = text


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    for kind in (DataRecipe, AugmentationRecipe, TrainingRecipe, Recipe):
        converter.register_structure_hook(kind, make_dict_structure_fn(kind, converter, _cattrs_forbid_extra_keys=True))
    return converter
