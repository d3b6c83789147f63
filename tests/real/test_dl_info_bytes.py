"""The public rows of DeepLesion, read into our records and written back: the same bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from public_rows import derived_again, lesion_of

from dataset_builder import dl_info

FILES = (
    "DL_info_val_visible.csv",
    "DL_info_test_visible.csv",
    "DL_info_train_part_visible.csv",
    "png/DL_info_png_visible.csv",
)


@pytest.mark.real
@pytest.mark.parametrize("name", FILES)
def test_a_public_file_read_and_written_again_is_the_same_byte_for_byte(real_data: Path, name: str) -> None:
    public = (real_data / "deeplesion" / name).read_bytes()
    rows = dl_info.parse(public.decode("ascii"))
    assert len(rows) == public.count(b"\n") - 1
    assert dl_info.to_csv(map(lesion_of, rows)) == public


@pytest.mark.real
def test_boxes_from_the_printed_ends_are_the_public_boxes_but_for_the_sixth_digit(real_data: Path) -> None:
    same = total = 0
    for name in FILES[:3]:
        text = (real_data / "deeplesion" / name).read_text(encoding="ascii")
        for row, line in zip(dl_info.parse(text), text.splitlines()[1:], strict=True):
            written = dl_info.row(replace(lesion_of(row), box_px=derived_again(lesion_of(row)).box_px))
            (again,) = dl_info.parse(f"{dl_info.header()}\n{written}\n")
            assert again.bounding_box == pytest.approx(row.bounding_box, abs=1.001e-3)
            same += written == line
            total += 1
    assert total == 5488
    assert same / total > 0.985
