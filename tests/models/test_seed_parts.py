"""The parts of the seed detector: anchors, targets, trunk and its weights, heads, options."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from deeplesion_miner.errors import ConfigError
from models import boxes
from models.detectors import seed_anchors, seed_options
from models.detectors.seed_anchors import BACKGROUND, UNUSED, anchors, match_anchors, match_regions
from models.detectors.seed_heads import ContextHead, FasterRcnnHead
from models.detectors.seed_network import SeedNetwork, with_margin
from models.detectors.seed_options import SeedOptions
from models.detectors.seed_trunk import Vgg16, intensities, load_weights

CPU = torch.device("cpu")
NARROW = SeedOptions(width=1 / 16)


# --- anchors and targets ---------------------------------------------------------------------------------


def test_every_cell_has_fifteen_anchors_around_its_centre() -> None:
    every = anchors(3, 4, SeedOptions(), CPU)
    assert every.shape == (3 * 4 * 15, 4)
    centres = ((every[:, :2] + every[:, 2:]) / 2).reshape(3, 4, 15, 2)
    torch.testing.assert_close(centres[0, 0], torch.full((15, 2), 3.5))
    torch.testing.assert_close(centres[2, 1], torch.tensor([11.5, 19.5]).expand(15, 2))


def test_anchors_have_the_published_sides_and_ratios() -> None:
    first_cell = anchors(1, 1, SeedOptions(), CPU)
    width, height = first_cell[:, 2] - first_cell[:, 0], first_cell[:, 3] - first_cell[:, 1]
    sides = torch.tensor([16.0, 24, 32, 48, 96]).repeat_interleave(3)
    torch.testing.assert_close((width * height).sqrt(), sides)
    torch.testing.assert_close(height / width, torch.tensor([0.5, 1, 2]).repeat(5))


def test_of_the_anchors_high_overlap_finds_low_overlap_rejects_and_between_is_unused() -> None:
    # overlaps with the lesion: 1, 0.6 (neither), 0.2, 0
    every = torch.tensor([[10.0, 10, 30, 30], [10, 10, 30, 22], [10, 10, 30, 14], [40, 40, 60, 60]])
    matched = match_anchors(every, torch.tensor([[10.0, 10, 30, 30]]), 64, 64, SeedOptions())
    assert matched.tolist() == [0, UNUSED, BACKGROUND, BACKGROUND]


def test_the_best_anchor_of_a_lesion_finds_it_however_low_its_overlap() -> None:
    every = torch.tensor([[10.0, 10, 30, 30], [40, 40, 60, 60]])
    lesions = torch.tensor([[10.0, 10, 14, 14], [40, 40, 60, 60]])
    assert match_anchors(every, lesions, 64, 64, SeedOptions()).tolist() == [0, 1]


def test_anchors_across_the_border_are_unused_and_without_lesions_all_others_are_background() -> None:
    every = torch.tensor([[-1.0, 10, 19, 30], [10, 10, 30, 30], [50, 50, 64, 64]])
    assert match_anchors(every, torch.zeros(0, 4), 64, 64, SeedOptions()).tolist() == [UNUSED, BACKGROUND, UNUSED]


def test_a_sample_of_32_anchors_is_positive_by_a_half_at_most() -> None:
    every = anchors(20, 20, SeedOptions(), CPU)
    lesion = torch.tensor([[40.0, 40, 140, 140]])
    matched = match_anchors(every, lesion, 160, 160, SeedOptions(anchor_positive=0.35))
    assert (matched >= 0).sum() == 16
    assert (matched == BACKGROUND).sum() == 16


def test_regions_are_positive_by_a_quarter_and_hold_the_lesion_by_half_at_least() -> None:
    lesions = torch.tensor([[10.0, 10, 30, 30], [60, 60, 90, 90]])
    near = lesions.repeat(30, 1) + torch.linspace(-12, 12, 60)[:, None]
    proposals = torch.cat([near, torch.tensor([[100.0, 0, 120, 20]]).repeat(30, 1)])
    regions, numbers = match_regions(proposals, lesions, SeedOptions())
    assert len(regions) == 32
    assert (numbers >= 0).sum() == 8
    overlap = boxes.iou(regions, lesions)
    for region, number in enumerate(numbers.tolist()):
        if number >= 0:
            assert overlap[region, number] >= 0.5
        else:
            assert overlap[region].max() < 0.5


def test_regions_are_sampled_also_from_few_proposals_and_without_lesions() -> None:
    lesion = torch.tensor([[10.0, 10, 30, 30]])
    regions, numbers = match_regions(torch.zeros(0, 4), lesion, SeedOptions())
    assert regions.tolist() == lesion.tolist() and numbers.tolist() == [0]
    _, numbers = match_regions(lesion, torch.zeros(0, 4), SeedOptions())
    assert numbers.tolist() == [BACKGROUND]


def test_the_sample_depends_on_torch_s_generator_alone() -> None:
    every = anchors(16, 16, SeedOptions(), CPU)
    lesion = torch.tensor([[40.0, 40, 70, 60]])

    def drawn(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return match_anchors(every, lesion, 128, 128, SeedOptions())

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_a_margin_goes_on_and_comes_off_again_but_leaves_a_pixel() -> None:
    tight = torch.tensor([[10.0, 10, 14, 20]])
    assert with_margin(tight, 5).tolist() == [[5, 5, 19, 25]]
    assert with_margin(with_margin(tight, 5), -5).tolist() == tight.tolist()
    assert with_margin(tight, -5).tolist() == [[11.5, 14.5, 12.5, 15.5]]


# --- trunk -----------------------------------------------------------------------------------------------


def test_the_trunk_is_vgg16_by_its_numbers_at_stride_eight() -> None:
    with torch.device("meta"):
        whole = Vgg16(SeedOptions())
    assert sum(one.numel() for one in whole.parameters()) == 14_714_688  # torchvision's vgg16().features
    names = [name for name, _ in whole.named_parameters() if name.endswith("weight")]
    assert names == [f"features.{n}.weight" for n in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)]
    assert Vgg16(NARROW)(torch.zeros(1, 3, 64, 96)).shape == (1, 32, 8, 12)


def test_intensities_are_clamped_to_the_published_range() -> None:
    found = intensities(torch.tensor([-3024.0, -1024, 3071, 9999]))
    torch.testing.assert_close(found * 57.6 + 50, torch.tensor([0.0, 0, 255, 255]))


def state_dict(options: SeedOptions) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(5)
    made = {name: torch.rand(value.shape, generator=random) for name, value in Vgg16(options).state_dict().items()}
    return {**made, "classifier.0.weight": torch.rand(4, 4), "classifier.0.bias": torch.rand(4)}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_are_taken_over_but_for_the_first_layer(tmp_path: Path, suffix: str) -> None:
    stored, path = state_dict(NARROW), tmp_path / f"vgg16{suffix}"
    torch.save(stored, path) if suffix == ".pth" else save_file(stored, path)
    trunk = Vgg16(NARROW)
    before = trunk.state_dict()["features.0.weight"].clone()
    load_weights(trunk, path)
    loaded = trunk.state_dict()
    assert torch.equal(loaded["features.0.weight"], before)
    assert all(torch.equal(loaded[name], stored[name]) for name in loaded if not name.startswith("features.0."))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda weights: weights.pop("features.28.bias"), "features.28.bias lacks"),
        (lambda weights: weights.update({"features.29.weight": torch.zeros(1)}), "features.29.weight belongs to no"),
        (
            lambda weights: weights.update({"features.2.weight": torch.zeros(64, 64, 3, 3)}),
            r"\(64, 64, 3, 3\), must be",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path: Path, change, complaint: str) -> None:  # type: ignore[no-untyped-def]
    stored = state_dict(NARROW)
    change(stored)
    torch.save(stored, tmp_path / "other.pth")
    with pytest.raises(ConfigError, match=rf"other\.pth.*{complaint}"):
        load_weights(Vgg16(NARROW), tmp_path / "other.pth")


@pytest.mark.parametrize("content", [b"", b"no weights at all", None, [1, 2]])
def test_a_file_that_holds_no_weights_is_refused_in_a_line(tmp_path: Path, content: object) -> None:
    for path in (tmp_path / "broken.pth", tmp_path / "broken.safetensors"):
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            torch.save(content, path)
        with pytest.raises(ConfigError, match="broken"):
            load_weights(Vgg16(NARROW), path)


# --- heads and options -----------------------------------------------------------------------------------


@pytest.mark.parametrize("images", [1, 3])
def test_the_context_head_judges_regions_by_the_maps_of_all_images(images: int) -> None:
    options = SeedOptions(head="3dce", images=images, width=1 / 16)
    head = ContextHead(options)
    features = torch.rand(2 * images, 32, 6, 8, requires_grad=True)
    prepared = head.prepare(features)
    assert prepared.shape == (2, 7, 7, 10 * images, 6, 8)
    logits, deltas = head(prepared[1], torch.tensor([[4.0, 4, 30, 30], [0, 0, 60, 40]]))
    assert logits.shape == (2, 2) and deltas.shape == (2, 4)
    logits.sum().backward()
    assert features.grad is not None
    moved = features.grad.abs().sum(dim=(1, 2, 3))
    assert (moved[:images] == 0).all() and (moved[images:] > 0).all()


def test_the_faster_rcnn_head_pools_seven_by_seven_bins() -> None:
    head = FasterRcnnHead(NARROW).eval()
    logits, deltas = head(head.prepare(torch.rand(1, 32, 6, 8))[0], torch.tensor([[4.0, 4, 30, 30]]))
    assert logits.shape == (1, 2) and deltas.shape == (1, 4)
    assert head.connected[0].in_features == 32 * 49


def test_parameters_at_full_width_are_as_counted_from_the_papers() -> None:
    with torch.device("meta"):
        faster, context = SeedNetwork(SeedOptions()), SeedNetwork(SeedOptions(head="3dce", images=9))

    def count(network: SeedNetwork) -> int:
        return sum(one.numel() for one in network.parameters())

    proposals = 512 * 256 * 9 + 256 + (256 + 1) * 15 * 5
    verdict = 2049 * 6
    assert count(faster) == 14_714_688 + proposals + (512 * 49 + 1) * 2048 + 2049 * 2048 + verdict
    assert count(context) == 14_714_688 + proposals + 513 * 490 + (90 * 49 + 1) * 2048 + verdict


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"head": "mask"}, "model.head 'mask'"),
        ({"images": 2, "head": "3dce"}, "must be odd"),
        ({"images": 3}, "takes one image"),
        ({"width": 0.0}, "model.width"),
        ({"wdith": 0.5}, "wdith"),
        ({"width": "wide"}, "model.width"),
    ],
)
def test_options_that_cannot_be_built_are_refused_by_name(values: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        seed_options.read(values)


def test_no_region_gets_a_box_of_another_lesion_than_it_overlaps_most() -> None:
    lesions = torch.tensor([[0.0, 0, 20, 20], [4, 0, 24, 20]])
    regions, numbers = match_regions(torch.tensor([[5.0, 0, 25, 20]]), lesions, SeedOptions())
    found = {tuple(region): number for region, number in zip(regions.tolist(), numbers.tolist(), strict=True)}
    assert found[(5.0, 0.0, 25.0, 20.0)] == 1
    assert seed_anchors.BACKGROUND not in found.values()
