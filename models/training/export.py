"""A model as ONNX, for programs without torch; kept only if it says what torch says."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from deeplesion_miner.errors import ConfigError, MinerError
from models.detectors import inputs
from models.detectors.lesionnet import DEEPEST_PX, Maps
from models.recipe import Recipe
from models.training import registry

FILE_NAME = "model.onnx"
NEEDED = ("onnx", "onnxruntime", "onnxscript")
TOLERANCE = 1e-4
"""Largest difference from torch, of any output."""
TRACED_CELLS = 2
"""Side of the traced image, in cells of the deepest level."""


class FromHu(nn.Module):
    """What is exported: (B, slices, H, W) Hounsfield units on the network's grid -> the maps of lesionnet."""

    def __init__(self, model: nn.Module, key: int) -> None:
        super().__init__()
        self._model = model
        self._key = key

    def forward(self, hu: Tensor) -> Maps:
        """The maps of a batch."""
        maps: Maps = self._model(inputs.channels(hu, self._key))
        return maps


def write(recipe: Recipe, weights: Mapping[str, Tensor], path: Path) -> Path:
    """Writes a lesionnet as ONNX, for any batch and any sides that are multiples of 32; its path.

    The graph takes 'hu' (B, slices, H, W) and gives 'centre', 'sides', 'ends' and 'mask' (`lesionnet.Maps`); its
    metadata hold the recipe. ConfigError for a recipe of another kind and where the ONNX packages are absent;
    MinerError where ONNX and torch differ by more than `TOLERANCE`, on another batch and size than the traced one.
    """
    check(recipe)
    model = registry.network(recipe)
    model.load_state_dict(dict(weights))
    key = inputs.key_index(recipe.data.slice_offsets_mm)
    network = FromHu(model, key).eval()
    slices = len(recipe.data.slice_offsets_mm)
    traced = _example(2, slices, TRACED_CELLS, TRACED_CELLS)
    side = torch.export.Dim.DYNAMIC
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            network,
            (traced,),
            dynamo=True,
            input_names=["hu"],
            output_names=list(Maps._fields),
            dynamic_shapes={"hu": {0: side, 2: side, 3: side}},
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props["recipe"] = json.dumps(recipe.to_json())
    program.save(str(path), external_data=False)
    compare(network, path, _example(1, slices, TRACED_CELLS + 1, TRACED_CELLS + 2))
    return path


def check(recipe: Recipe) -> None:
    """ConfigError where a recipe's model cannot become ONNX here: found before anything is trained."""
    if recipe.kind != "lesionnet":
        raise ConfigError(f"ONNX: recipe {recipe.name} is a {recipe.kind!r}; only 'lesionnet' can be exported")
    absent = [name for name in NEEDED if find_spec(name) is None]
    if absent:
        raise ConfigError(f"ONNX needs {', '.join(absent)}: pip install 'deeplesion-miner[models-more]'")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporter's words about its own internals from the terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def compare(network: nn.Module, path: Path, hu: Tensor) -> None:
    """Removes an ONNX file and raises MinerError where it does not say of a batch what the network says."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    answers = session.run(None, {"hu": hu.numpy()})
    with torch.no_grad():
        expected = network(hu)
    for name, one, other in zip(Maps._fields, answers, expected, strict=True):
        difference = float(np.abs(one - other.numpy()).max())
        if not difference <= TOLERANCE:
            path.unlink()
            raise MinerError(f"ONNX: {name!r} differs from torch by {difference:.2g}; the export is of no use")


def _example(batch: int, slices: int, rows: int, columns: int) -> Tensor:
    """Noise in the range of tissue, sides in cells of the deepest level."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, slices, rows * DEEPEST_PX, columns * DEEPEST_PX, generator=generator) * 200
