"""Recipes: everything that a training depends on beside its data, as TOML; unknown names are refused."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args, get_origin

import cattrs
from cattrs.gen import make_dict_structure_fn

from deeplesion_miner.errors import ConfigError

SUFFIX = ".toml"
PROTOCOLS = ("millimetres", "public")
OPTIMIZERS = ("adamw", "sgd")
PRECISIONS = ("fp32", "bf16", "fp16")


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

    def __post_init__(self) -> None:
        """Raises ConfigError naming every value that cannot be."""
        offsets = self.slice_offsets_mm
        _demand(
            "data",
            self,
            pixel_mm=(_positive(self.pixel_mm), "above 0"),
            slice_offsets_mm=(
                offsets.count(0.0) == 1 and all(a < b for a, b in pairwise(offsets)),
                "distances in rising order, 0 (the key slice) among them",
            ),
            crop_px=(self.crop_px > 0, "above 0"),
            protocol=(self.protocol in PROTOCOLS, f"one of {', '.join(PROTOCOLS)}"),
            train_splits=(bool(self.train_splits), "at least one split"),
            lesion_share=(0 <= self.lesion_share <= 1, "from 0 to 1"),
        )


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

    def __post_init__(self) -> None:
        """Raises ConfigError naming every value that cannot be."""
        mirrors = {name: getattr(self, name) for name in ("mirror_columns", "mirror_rows", "mirror_slices")}
        lengths = {name: getattr(self, name) for name in ("rotate_deg", "shift_px", "key_slice_jitter", "hu_shift")}
        lengths["noise_hu"] = self.noise_hu
        shares = {"scale": self.scale, "hu_scale": self.hu_scale}
        _demand(
            "augmentation",
            self,
            **{name: (0 <= value <= 1, "a probability, from 0 to 1") for name, value in mirrors.items()},
            **{name: (0 <= value < math.inf, "0 or more") for name, value in lengths.items()},
            **{name: (0 <= value < 1, "from 0 to below 1") for name, value in shares.items()},
        )


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
    """Longest gradient that is followed as it is; longer ones are shortened to it; 0 = never."""
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

    def __post_init__(self) -> None:
        """Raises ConfigError naming every value that cannot be."""
        counts = ("steps", "batch", "threads", "log_every", "validate_every", "checkpoint_every")
        _demand(
            "training",
            self,
            **{name: (getattr(self, name) >= 1, "1 or more") for name in counts},
            seed=(self.seed >= 0, "0 or more"),
            optimizer=(self.optimizer in OPTIMIZERS, f"one of {', '.join(OPTIMIZERS)}"),
            momentum=(0 <= self.momentum < 1, "from 0 to below 1"),
            learning_rate=(_positive(self.learning_rate), "above 0"),
            weight_decay=(0 <= self.weight_decay < math.inf, "0 or more"),
            warm_up=(0 <= self.warm_up < 1, "a share of the steps, from 0 to below 1"),
            milestones=(
                all(0 < one < 1 for one in self.milestones) and all(a < b for a, b in pairwise(self.milestones)),
                "shares of the steps between 0 and 1, in rising order",
            ),
            gradient_clip=(0 <= self.gradient_clip < math.inf, "above 0, or 0 for none"),
            ema_decay=(0 <= self.ema_decay < 1, "from 0 to below 1"),
            precision=(self.precision in PRECISIONS, f"one of {', '.join(PRECISIONS)}"),
            patience=(self.patience >= 0, "0 or more"),
        )


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

    def to_toml(self) -> str:
        """The recipe with every value as TOML, to make a file of one's own from; the file's name is then its name."""
        plain = self.to_json()
        sections = [name for name, value in plain.items() if isinstance(value, Mapping)]
        lines = [f"{name} = {json.dumps(plain[name])}" for name in plain if name not in (*sections, "name")]
        for section in sections:
            values = [f"{name} = {json.dumps(value)}" for name, value in plain[section].items()]
            lines += ["", f"[{section}]", *values]
        return "\n".join(lines) + "\n"


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
        if not path.is_file():
            raise ConfigError(f"{path}: no such recipe file; `mine train --recipes` lists those that come with mine")
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
        raise ConfigError(f"recipe {values.get('name', '')}: {'; '.join(_problems(error, ''))}") from error


def _override(values: dict[str, Any], override: str) -> None:
    setting, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(
            f"{override!r} changes nothing of a recipe: write section.name=value, e.g. training.steps=100"
        )
    *sections, name = setting.strip().split(".")
    place = values
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            raise ConfigError(f"{override!r}: {section} is no section of a recipe; write section.name=value")
    try:
        place[name] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError as error:
        if text.lstrip().startswith("["):  # a shell takes away quotes that are not quoted themselves
            raise ConfigError(
                f"{override!r} is not TOML ({error}): quote it whole, e.g. \"{setting}=['val']\""
            ) from error
        place[name] = text


def _converter() -> cattrs.Converter:
    """Takes values of the very type only: 7.5 is no number of steps, and '5' no number at all."""
    converter = cattrs.Converter(forbid_extra_keys=True)
    for exact, words in ((int, "a whole number"), (str, "text in quotes"), (bool, "true or false")):
        converter.register_structure_hook(exact, _only(exact, words))
    converter.register_structure_hook(float, lambda value, _: float(_only((int, float), "a number")(value, float)))
    section = _only(Mapping, "a section of its own")
    converter.register_structure_hook_func(_is_mapping, section)
    converter.register_structure_hook_func(
        _is_tuple,
        lambda value, kind: tuple(converter.structure(one, get_args(kind)[0]) for one in _list(value)),
    )
    for each in (DataRecipe, AugmentationRecipe, TrainingRecipe, Recipe):
        fields_of = make_dict_structure_fn(each, converter, _cattrs_forbid_extra_keys=True)
        converter.register_structure_hook(
            each, lambda value, kind, fields_of=fields_of: fields_of(section(value, kind), kind)
        )
    return converter


def _only(wanted: type | tuple[type, ...], words: str) -> Callable[[Any, Any], Any]:
    def structure(value: Any, _: Any) -> Any:
        # True is an int to Python, and no number to people
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            raise _WrongType(f"is {value!r}: must be {words}")
        return value

    return structure


def _is_tuple(kind: Any) -> bool:
    return get_origin(kind) is tuple


def _is_mapping(kind: Any) -> bool:
    return get_origin(kind) is Mapping


def _list(value: Any) -> Any:
    """Refuses text, which would become a list of its letters."""
    if not isinstance(value, list | tuple):
        raise _WrongType(f"is {value!r}: must be a list in square brackets")
    return value


class _WrongType(TypeError):
    """A value of a recipe has another type than its field."""


def _problems(error: BaseException, place: str) -> list[str]:
    """One line for each field that does not fit; `place` is '' or ends in a dot."""
    if isinstance(error, cattrs.ClassValidationError):
        named, others = error.group_exceptions()
        found = [line for one, note in named for line in _problems(one, f"{place}{note.name}.")]
        return found + [line for one in others for line in _problems(one, place)]
    if isinstance(error, cattrs.ForbiddenExtraKeysError):
        known = ", ".join(one.name for one in fields(error.cl))
        return [f"there is no {', '.join(place + one for one in sorted(error.extra_fields))}; there are {known}"]
    if isinstance(error, KeyError):
        return [f"{place[:-1]} is missing"]
    return [str(error) if isinstance(error, ConfigError) else f"{place[:-1]} {error}"]


def _demand(section: str, values: Any, **demands: tuple[bool, str]) -> None:
    """ConfigError for every field whose demand is not met."""
    unmet = [
        f"{section}.{name} is {getattr(values, name)!r}: must be {words}"
        for name, (is_met, words) in demands.items()
        if not is_met
    ]
    if unmet:
        raise ConfigError("; ".join(unmet))


def _positive(value: float) -> bool:
    return 0 < value < math.inf
