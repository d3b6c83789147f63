"""VGG-16's convolutions without its last two poolings, so that small lesions keep cells of their own."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from deeplesion_miner.errors import ConfigError
from models.detectors.seed_options import SLICES_OF_AN_IMAGE, SeedOptions

STRIDE_PX = 8
"""Side of a cell of the trunk's map; its centre lies at STRIDE_PX * (number + 0.5) - 0.5 pixels."""
PUBLISHED_CHANNELS = 512
LAYERS: tuple[int | str, ...] = (
    *(64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool"),
    *(512, 512, 512, "left out", 512, 512, 512),
)
"""Simonyan & Zisserman 2015, configuration D; pool4 and pool5 left out (DeepLesion 2018)."""
LOWEST_HU, HIGHEST_HU = -1024.0, 3071.0
BYTE_MEAN = 50.0
"""Published: the range above as 0 to 255, less 50."""
BYTE_SPREAD = 57.6
"""0.226 * 255: weights in torchvision's naming learnt from colours divided by their spread, the published not."""
NEW_LAYER = "features.0."
"""CT slices are no colours: the first convolution is always new (DeepLesion 2018)."""


def intensities(hu: Tensor) -> Tensor:
    """Network values of the same shape from Hounsfield units."""
    share = (hu.clamp(LOWEST_HU, HIGHEST_HU) - LOWEST_HU) / (HIGHEST_HU - LOWEST_HU)
    return (share * 255 - BYTE_MEAN) / BYTE_SPREAD


class Vgg16(nn.Module):
    """(B, 3, H, W) intensities, H and W multiples of 8 -> (B, 512 * width, H / 8, W / 8).

    Layers are numbered as in torchvision's `vgg16().features`, a placeholder standing for pool4.
    """

    def __init__(self, options: SeedOptions) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = SLICES_OF_AN_IMAGE
        for layer in LAYERS:
            if isinstance(layer, int):
                convolution = nn.Conv2d(before, options.channels(layer), 3, padding=1)
                nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
                nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
                layers += [convolution, nn.ReLU(inplace=True)]
                before = convolution.out_channels
            else:
                layers.append(nn.MaxPool2d(2) if layer == "pool" else nn.Identity())
        self.features = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """The map of a batch."""
        mapped: Tensor = self.features(images)
        return mapped


def load_weights(trunk: Vgg16, path: Path) -> None:
    """Takes VGG-16 weights from a state dict in torchvision's naming (.pth or .safetensors) but for the first layer.

    Fully connected layers of the file are left out. ConfigError naming file and keys for a file that cannot be read,
    keys that lack or that no layer has, and other shapes.
    """
    stored = {name: value for name, value in _read(path).items() if not name.startswith("classifier.")}
    wanted = {name: value for name, value in trunk.state_dict().items() if not name.startswith(NEW_LAYER)}
    offered = {name: value for name, value in stored.items() if not name.startswith(NEW_LAYER)}
    problems = [f"{name} lacks" for name in wanted if name not in offered]
    problems += [f"{name} belongs to no layer" for name in offered if name not in wanted]
    problems += [
        f"{name} is {tuple(offered[name].shape)}, must be {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in offered and offered[name].shape != value.shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ConfigError(
            f"weights {path}: {'; '.join(problems[:3])}{more}: not the convolutions of a VGG-16 of this width "
            "in torchvision's naming (features.N.weight, without batch norm)"
        )
    trunk.load_state_dict(offered, strict=False)


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        stored = path.suffix == ".safetensors"
        values: object = load_file(path) if stored else torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, SafetensorError) as error:
        raise ConfigError(f"weights {path}: cannot be read as .pth or .safetensors: {error}") from error
    if not isinstance(values, dict) or not all(isinstance(value, Tensor) for value in values.values()):
        raise ConfigError(f"weights {path}: holds no state dict (names with tensors) but {type(values).__name__}")
    return values
