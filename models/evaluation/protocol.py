"""The rules of one evaluation: which boxes are compared, how, and what they are called in words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from models.evaluation.froc import PUBLISHED_FALSE_POSITIVES, Ties
from models.evaluation.overlap import Criterion, Space

FALSE_POSITIVES = PUBLISHED_FALSE_POSITIVES
"""Per image, where every curve is read."""
PUBLISHED_AVERAGE = slice(0, 4)
"""Of these, 0.5, 1, 2 and 4: the "average" of DeepLesion's papers."""
BAND = tuple(2.0 ** (third / 3) for third in range(-9, 13))
"""Where the interval of a drawn curve is computed: 1/8 to 16, three times an octave."""
AVERAGE_TO_EIGHT = slice(0, 5)
"""0.5, 1, 2, 4 and 8."""


class Boxes(StrEnum):
    """Which box of a mark is compared with which box of a detection."""

    TIGHT = "tight"
    """Around the four ends, with the detection's box as it is."""
    PADDED = "padded"
    """The dataset's own, wider by its margin (5 px in DeepLesion), with the detection's box widened by the same.

    DeepLesion's published detectors are trained on the padded boxes and scored with them: their numbers belong here.
    A margin lets two boxes agree more, so padded numbers are higher, most of all for small lesions.
    """


@dataclass(frozen=True)
class Protocol:
    """How detections are counted; by default as the public codes count, but with tight boxes."""

    boxes: Boxes = Boxes.TIGHT
    space: Space = Space.PLANE
    """PLANE: detections on the key slice itself. PSEUDO_VOLUME: detections on any slice of the series whose 3-D mask
    reaches the key slice, each compared with its box of its own slice."""
    criterion: Criterion = Criterion.IOU
    threshold: float = 0.5
    ties: Ties = Ties.HITS_LAST
    """The public codes rank equal scores by an unstable sort; the lowest sensitivity of all orders is reproducible."""
    drop_noisy: bool = True
    """Marks flagged possibly noisy do not count, nor do slices that hold no other mark: as published."""

    @property
    def measure(self) -> str:
        """The criterion as it is written: 'IoU'."""
        return self.criterion.replace("O", "o")

    def words(self) -> dict[str, str]:
        """The rules in sentences, for the record and the page."""
        compared = {
            Boxes.TIGHT: "tight: around the ends of the mark's axes, without a margin (published detectors are "
            "trained and scored on boxes with 5 px of margin: use padded to compare with them)",
            Boxes.PADDED: "padded: the dataset's boxes with their margin, the detections' boxes widened by the same, "
            "as DeepLesion's published detectors are scored",
        }
        seen = {
            Space.PLANE: "detections on the key slice",
            Space.PSEUDO_VOLUME: "P3D: detections of the series whose 3-D mask reaches the key slice",
        }
        noisy = "left out, with the slices that hold no other mark" if self.drop_noisy else "kept"
        return {
            "boxes": compared[self.boxes],
            "hit": f"{self.measure} of at least {self.threshold:g} (an extent is last - first + 1 pixel)",
            "detections": seen[self.space],
            "counting": "all detections are pooled and ranked by score; one that hits no mark of its image is a false "
            "positive, one that hits only marks that better ones hit is neither; false positives are divided by all "
            "images, also those without marks",
            "equal scores": {
                Ties.HITS_LAST: "false positives first: the lowest sensitivity of any order",
                Ties.HITS_FIRST: "hits first: the highest sensitivity of any order",
                Ties.PUBLISHED: "as numpy.argsort leaves them: not reproducible between processors",
            }[self.ties],
            "average": "mean sensitivity at 0.5, 1, 2 and 4 false positives per image (published); to eight: and at 8",
            "noisy marks": noisy,
            "intervals": "percentile bootstrap over patients",
        }
