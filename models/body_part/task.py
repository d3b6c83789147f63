"""Body-part regression as the training loop takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor, nn

from deeplesion_miner.errors import ConfigError
from models.body_part import atlas, losses, options, phantom, sampling
from models.body_part.frames import Frames
from models.body_part.network import BodyPartNetwork, central
from models.body_part.options import BodyPartOptions
from models.body_part.profile import FEATURES, frames
from models.body_part.sampling import Source
from models.reading.folder import DatasetFolder
from models.recipe import Recipe
from models.training.task import Batch

LEAST_EXTENT_MM = 30.0
"""Of a volume to learn from or to validate on: a shorter one has no order to speak of."""

SINGLE_SLICES = 4
"""Taken together from one volume, moved alike."""
PHANTOM_STEP_MM = 8.0
"""Between the slices of phantoms that train along."""


class BodyPartTask:
    """Scores of slices, learned from the order and the millimetres of volumes; see `models.training.task.Task`."""

    def __init__(self, dataset: DatasetFolder, recipe: Recipe) -> None:
        """ConfigError for options that do not fit and a dataset without one volume to learn from."""
        training = volumes_of(dataset, recipe.data.train_splits, options.from_recipe(recipe.model).reach_mm)
        validation = volumes_of(dataset, recipe.data.validation_splits, options.from_recipe(recipe.model).reach_mm)
        self._set_up(recipe, training, validation)

    @classmethod
    def of_volumes(cls, training: Mapping[str, Frames], validation: Mapping[str, Frames], recipe: Recipe
                   ) -> BodyPartTask:  # fmt: skip
        """The task on volumes at hand, by name; with no training volumes the phantoms alone train."""
        task = cls.__new__(cls)
        task._set_up(recipe, training, validation)
        return task

    def _set_up(self, recipe: Recipe, training: Mapping[str, Frames], validation: Mapping[str, Frames]) -> None:
        self._recipe = recipe
        self._options = options.from_recipe(recipe.model)
        self._validation = validation
        self._phantoms = tuple(phantom_source(seed) for seed in range(self._options.phantoms))
        usable = {name: one for name, one in training.items() if extent_mm(one) >= LEAST_EXTENT_MM}
        if not (usable or self._phantoms):
            raise ConfigError(
                f"body-part: none of {len(training)} training volumes spans {LEAST_EXTENT_MM:g} mm; "
                "mine with more context slices or set model.phantoms"
            )
        known: tuple[NDArray[np.float64], ...]
        if self._phantoms:
            _, matches = atlas.learn(
                [one.frames for one in self._phantoms], [one.known_cm for one in self._phantoms], list(usable.values())
            )
            known = tuple(
                match.heights_cm(one.position_mm) for match, one in zip(matches, usable.values(), strict=True)
            )
        else:
            known = tuple(np.full(len(one.position_mm), np.nan) for one in usable.values())
        self._volumes = tuple(
            Source(name, one, heights) for (name, one), heights in zip(usable.items(), known, strict=True)
        )
        self._scale = sampling.scale_of([*self._volumes, *self._phantoms])
        how = self._options
        self._disturbance = sampling.Disturbance(
            how.profile_noise, how.profile_dropped, how.profile_all_dropped if how.use_image else 0.0
        )

    def build(self) -> nn.Module:
        """A new BodyPartNetwork with the scale of this dataset's profiles."""
        network = build_network(self._options)
        network.set_profile_scale(self._scale.mean.tolist(), self._scale.spread.tolist())
        return network

    def batch(self, step: int) -> Batch:
        """Candidates for the groups of a step, and slices from anywhere whose height is known.

        'hu' (candidates, SLICES, VIEW_ROWS, VIEW_COLUMNS), 'profile' (candidates, SLICES, features), 'position_cm',
        'known_cm' (candidates, SLICES; NaN where unknown), 'is_exact' (candidates,); the same names after 'single_'
        with (singles, SINGLE_SLICES) in the place of (candidates, SLICES).
        """
        random = np.random.default_rng([self._recipe.training.seed, step])
        groups, singles = self._drawn(random)
        made = [self._group(source, sampling.crop(source.frames, random), random) for source in groups]
        anywhere = [self._group(source, self._anywhere(source, random), random) for source in singles]
        batch = {name: torch.stack([one[name] for one in made]) for name in made[0]}
        for name in anywhere[0] if anywhere else ():
            batch[f"single_{name}"] = torch.stack([one[name] for one in anywhere])
        return batch

    def names(self, step: int) -> tuple[str, ...]:
        """Names of the volumes in that batch."""
        random = np.random.default_rng([self._recipe.training.seed, step])
        groups, singles = self._drawn(random)
        return tuple(source.name for source in (*groups, *singles))

    def losses(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        """Order, distance, slope and place, means over the groups that are kept.

        Hard volumes are sampled again: half of the kept groups are those of the highest loss among the candidates,
        under the weights of this very step, so that nothing but the step decides what is learned from.
        """
        tensors = {name: value for name, value in batch.items() if isinstance(value, Tensor)}
        each = self._each(model, tensors)
        total = torch.stack(list(each.values())).sum(dim=0)
        size = self._recipe.training.batch
        if len(total) > size:
            plain = size - size // 2
            hardest = plain + total[plain:].topk(size // 2).indices
            kept = torch.cat([torch.arange(plain, device=total.device), hardest])
            each, total = {name: value[kept] for name, value in each.items()}, total[kept]
        found = {"loss": total.mean(), **{name: value.mean() for name, value in each.items()}}
        if "single_hu" in tensors:
            found["single"] = self._singles(model, tensors)
            found["loss"] = found["loss"] + found["single"]
        return found

    def validate(self, model: nn.Module) -> Mapping[str, float]:
        """Median and least rank correlation of raw scores with the order of the slices, over validation volumes."""
        found = [
            float(spearmanr(scores(model, one)[one.has_body], one.position_mm[one.has_body])[0])
            for one in self._validation.values()
            if extent_mm(one) >= LEAST_EXTENT_MM
        ]
        return {"score": float(np.median(found)), "least": float(np.min(found))} if found else {}

    def _drawn(self, random: np.random.Generator) -> tuple[list[Source], list[Source]]:
        """The sources of a batch's candidates and of its single slices; the first numbers of a step's generator."""
        size = self._recipe.training.batch
        candidates = max(size, round(size * self._options.candidates))
        count = candidates + (self._options.singles if self._phantoms else 0)
        drawn = []
        for _ in range(count):
            of_phantoms = random.random() < self._options.phantom_share
            place = random.random()
            sources = self._phantoms if (of_phantoms and self._phantoms) or not self._volumes else self._volumes
            drawn.append(sources[int(place * len(sources))])
        return drawn[:candidates], drawn[candidates:]

    def _anywhere(self, source: Source, random: np.random.Generator) -> NDArray[np.int64]:
        picked: NDArray[np.int64] = random.choice(np.flatnonzero(source.frames.has_body), SINGLE_SLICES)
        return picked

    def _group(self, source: Source, picked: NDArray[np.int64], random: np.random.Generator) -> dict[str, Tensor]:
        hu, factors = sampling.disturbed(source.frames.hu[picked].astype(np.float32), self._recipe.augmentation, random)
        profile = sampling.described(source.frames.profile[picked], self._scale, self._disturbance, factors, random)
        return {
            "hu": hu,
            "profile": profile,
            "position_cm": torch.from_numpy(source.frames.position_mm[picked].astype(np.float32) / 10),
            "known_cm": torch.from_numpy(source.known_cm[picked].astype(np.float32)),
            "is_exact": torch.tensor(1.0 if source.is_exact else 0.0),
        }

    def _each(self, model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weighted losses by name, (groups,) each."""
        how = self._options
        found = _scored(model, batch["hu"], batch["profile"])
        return {
            "order": how.order_weight * losses.order_loss(found),
            "distance": how.distance_weight * losses.distance_loss(found),
            "slope": how.slope_weight * losses.slope_loss(found, batch["position_cm"]),
            "place": self._trust(batch["is_exact"]) * losses.place_loss(found, batch["known_cm"]),
        }

    def _singles(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Place loss of slices from anywhere: groups alone are few and alike inside, so heights are learned slowly."""
        found = _scored(model, batch["single_hu"], batch["single_profile"])
        return (self._trust(batch["single_is_exact"]) * losses.place_loss(found, batch["single_known_cm"])).mean()

    def _trust(self, is_exact: Tensor) -> Tensor:
        """(groups,) weight of the place loss: heights found by matching are trusted less than exact ones."""
        how = self._options
        return how.place_weight + is_exact * (how.phantom_place_weight - how.place_weight)


def _scored(model: nn.Module, hu: Tensor, profile: Tensor) -> Tensor:
    """(groups, slices) scores of views (groups, slices, rows, columns) and profiles (groups, slices, features)."""
    found: Tensor = model(hu.reshape(-1, *hu.shape[2:]), profile.reshape(-1, profile.shape[2]))
    return found.float().view(hu.shape[:2])


def build_network(how: BodyPartOptions) -> BodyPartNetwork:
    """A new network by a recipe's options."""
    return BodyPartNetwork(FEATURES, how.width, how.use_profile, how.use_image, how.dropout)


def scores(model: nn.Module, volume: Frames, batch: int = 64) -> NDArray[np.float64]:
    """(slices,) raw scores, each slice on its own, in centimetres below the nominal vertex; NaN without a body."""
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    found = []
    with torch.no_grad():
        for first in range(0, len(volume.hu), batch):
            hu = torch.from_numpy(volume.hu[first : first + batch].astype(np.float32)).to(device)
            profile = torch.from_numpy(volume.profile[first : first + batch]).to(device)
            found.append(model(central(hu), profile).double().cpu().numpy())
    model.train(was_training)
    return np.where(volume.has_body, np.concatenate(found), np.nan)


@lru_cache(maxsize=128)
def phantom_source(seed: int) -> Source:
    """A phantom patient from vertex to thigh, with the exact heights of its slices."""
    volume = phantom.volume(seed, step_mm=PHANTOM_STEP_MM)
    return Source(volume.images[0].split("/")[0], frames(volume), phantom.nominal_mm(seed, volume) / 10, True)


def volumes_of(dataset: DatasetFolder, splits: Sequence[str], reach_mm: float) -> dict[str, Frames]:
    """The sub-volumes around the key slices of some splits by name, each series' range once."""
    found: dict[str, Frames] = {}
    seen: set[tuple[str, str]] = set()
    for key_slice in dataset.key_slices:
        if key_slice.split not in splits:
            continue
        volume, _ = dataset.volume(key_slice, reach_mm)
        ends = volume.images[0], volume.images[-1]
        if ends not in seen:
            seen.add(ends)
            found[f"{ends[0]}..{ends[1]}"] = frames(volume)
    return found


def extent_mm(volume: Frames) -> float:
    """Distance between the first and the last slice that show a body; 0 where none does."""
    shown = volume.position_mm[volume.has_body]
    return float(shown[-1] - shown[0]) if len(shown) else 0.0
