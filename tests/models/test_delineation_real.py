"""Delineation on real lesions: published baselines on human masks, and a real tumour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.delineation.prior import calibrated
from models.evaluation.mask_metrics import dice
from tests.experiments.delineation_cases import sarcoma_cases
from tests.experiments.delineation_marks import baselines, human_masks, of_prior
from tests.experiments.delineation_masks import ellipsoid, walk

pytestmark = pytest.mark.real


def test_the_plain_shapes_reach_their_published_dice_and_the_prior_more(real_data: Path) -> None:
    lesions = human_masks(real_data / "deeplesion" / "masks")
    plain = baselines(lesions)
    assert len(lesions) == 127
    assert plain["quarter ellipses"][0] == pytest.approx(0.835, abs=0.005)
    assert plain["quarter ellipses x 1.1"][0] == pytest.approx(0.852, abs=0.005)
    assert plain["ellipsoid, z axis = mean"][1] == pytest.approx(0.601, abs=0.01)
    key, whole = np.mean([of_prior(one, calibrated(), (0.0, 0.0)) for one in lesions], axis=0)
    assert key > 0.855
    assert whole > 0.655


def test_a_sarcoma_is_delineated_in_depth_better_than_by_its_ellipsoid(real_data: Path) -> None:
    case = next(one for one in sarcoma_cases(real_data / "sts") if one.name == "STS_051")
    assert dice(walk(case), case.truth) > dice(ellipsoid(case), case.truth) + 0.03
