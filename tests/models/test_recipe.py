"""Recipes: what is written is taken as it is, what cannot be is refused by name."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplesion_miner.errors import ConfigError
from models import recipe
from models.recipe import AugmentationRecipe, DataRecipe, Recipe, TrainingRecipe
from models.training.registry import KINDS

OURS = "lesionnet-s-9"


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as refused:
        recipe.load(OURS, overrides)
    return str(refused.value)


@pytest.mark.parametrize("name", recipe.names())
def test_every_recipe_that_comes_with_the_tool_can_be_read_and_says_what_it_is(name: str) -> None:
    read = recipe.load(name)
    assert read.name == name
    assert read.kind in KINDS
    assert read.meaning


@pytest.mark.parametrize("name", recipe.names())
def test_a_recipe_comes_back_from_json(name: str) -> None:
    read = recipe.load(name)
    assert recipe.from_json(json.loads(json.dumps(read.to_json()))) == read


@given(
    steps=st.integers(1, 10**6),
    learning_rate=st.floats(1e-9, 10),
    offsets=st.sets(st.floats(0.1, 50), max_size=5),
    mirrored=st.floats(0, 1),
)
def test_any_sound_recipe_comes_back_from_json(
    steps: int, learning_rate: float, offsets: set[float], mirrored: float
) -> None:
    one = Recipe(
        name="any",
        kind="lesionnet",
        model={"size": "S", "deep": {"list": [1, 2]}},
        data=DataRecipe(slice_offsets_mm=(0.0, *sorted(offsets))),
        augmentation=AugmentationRecipe(mirror_rows=mirrored),
        training=TrainingRecipe(steps=steps, learning_rate=learning_rate),
    )
    assert recipe.from_json(json.loads(json.dumps(one.to_json()))) == one


def test_a_recipe_can_be_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('kind = "lesionnet"\n[training]\nsteps = 7\n')
    read = recipe.load(str(path))
    assert (read.name, read.training.steps) == ("mine", 7)


@pytest.mark.parametrize("name", recipe.names())
def test_a_recipe_comes_back_from_its_own_toml(name: str, tmp_path: Path) -> None:
    read = recipe.load(name, ["training.learning_rate=1e-7", "data.slice_offsets_mm=[-2.5, 0]"])
    path = tmp_path / f"{name}.toml"
    path.write_text(read.to_toml())
    assert recipe.load(str(path)) == read


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: no such recipe file"):
        recipe.load(str(tmp_path / "absent.toml"))


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("kind = ")
    with pytest.raises(ConfigError, match=r"broken\.toml: not TOML"):
        recipe.load(str(path))


def test_an_unknown_name_is_told_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=OURS):
        recipe.load("lesionnet-xxl")


def test_overrides_change_single_values_and_leave_the_others() -> None:
    read = recipe.load(OURS, ["training.steps=3", "model.size=M", "data.slice_offsets_mm=[-2, 0, 2]"])
    ours = recipe.load(OURS)
    assert read == replace(
        ours,
        model={"size": "M"},
        training=replace(ours.training, steps=3),
        data=replace(ours.data, slice_offsets_mm=(-2.0, 0.0, 2.0)),
    )


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("training.steps=7.5", "training.steps is 7.5: must be a whole number"),
        ("training.steps='7'", "training.steps is '7': must be a whole number"),
        ("training.steps=true", "training.steps is True: must be a whole number"),
        ("training.learning_rate='5'", "training.learning_rate is '5': must be a number"),
        ("training.learning_rate=true", "training.learning_rate is True: must be a number"),
        ("training.channels_last=1", "training.channels_last is 1: must be true or false"),
        ("training.optimizer=1", "training.optimizer is 1: must be text in quotes"),
        ("data.slice_offsets_mm=[0, 'a']", "data.slice_offsets_mm is 'a': must be a number"),
        ("data.slice_offsets_mm=0", "data.slice_offsets_mm is 0: must be a list"),
        ("data.train_splits=train", "data.train_splits is 'train': must be a list"),
        ("data.train_splits=[val]", "quote it whole"),
        ("model=S", "model is 'S': must be a section"),
        ("data=1", "data is 1: must be a section"),
        ("kind.of=1", "kind is no section"),
        ("training.steps", "write section.name=value"),
        ("training.stepps=7", "there is no training.stepps; there are steps,"),
        ("trainig.steps=7", "there is no trainig; there are name, kind,"),
    ],
)
def test_a_value_of_another_type_or_place_is_refused_by_name(override: str, found: str) -> None:
    assert found in refusal(override)


@pytest.mark.parametrize(
    "override",
    [
        "data.pixel_mm=0",
        "data.pixel_mm=nan",
        "data.slice_offsets_mm=[]",
        "data.slice_offsets_mm=[-3, 3]",
        "data.slice_offsets_mm=[3, 0]",
        "data.slice_offsets_mm=[0, 0]",
        "data.crop_px=0",
        "data.protocol=metres",
        "data.train_splits=[]",
        "data.lesion_share=1.1",
        "augmentation.mirror_rows=-0.1",
        "augmentation.rotate_deg=-1",
        "augmentation.scale=1",
        "augmentation.noise_hu=inf",
        "training.steps=0",
        "training.batch=0",
        "training.seed=-1",
        "training.threads=0",
        "training.optimizer=adam",
        "training.momentum=1",
        "training.learning_rate=0",
        "training.learning_rate=inf",
        "training.weight_decay=-1",
        "training.warm_up=1",
        "training.milestones=[0.8, 0.5]",
        "training.milestones=[1.5]",
        "training.gradient_clip=-1",
        "training.ema_decay=1",
        "training.precision=fp8",
        "training.validate_every=0",
        "training.checkpoint_every=0",
        "training.patience=-1",
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(override: str) -> None:
    name, _, _ = override.partition("=")
    assert f"{name} is" in refusal(override)


def test_all_that_is_wrong_is_said_at_once() -> None:
    said = refusal("training.steps=0", "training.batch=0", "data.pixel_mm=-1", "augmentation.scale=x")
    assert all(name in said for name in ("training.steps", "training.batch", "data.pixel_mm", "augmentation.scale"))


def test_a_recipe_without_a_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="kind is missing"):
        recipe.from_json({"name": "nothing"})


def test_recipes_made_in_code_are_held_to_the_same() -> None:
    with pytest.raises(ConfigError, match=r"training\.steps is 0"):
        TrainingRecipe(steps=0)


@pytest.mark.parametrize("section", [DataRecipe, AugmentationRecipe, TrainingRecipe])
def test_every_number_of_a_recipe_is_held_to_a_bound(section: type) -> None:
    """Not a number is refused everywhere, so no field was forgotten."""
    for field in fields(section):
        if field.type == "float":
            with pytest.raises(ConfigError, match=field.name):
                section(**{field.name: float("nan")})
        if field.type == "int":
            with pytest.raises(ConfigError, match=field.name):
                section(**{field.name: -1})
