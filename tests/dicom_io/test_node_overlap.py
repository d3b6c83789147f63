"""Two rules that could show one algorithm the same series are refused when the rules are read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplesion_miner.errors import ConfigError
from dicom_io.node import NodeRules, read_rules
from dicom_io.node.overlap import common_text, shared_series
from dicom_io.node.records import ReceivedSeries
from dicom_io.node.rules import SeriesRule

HEAD = """
[[peer]]
ae_title = "PACS"

[[peer]]
ae_title = "CT1"
"""
RULE = """
[[rule]]
name = "{name}"
model = "{model}"
destination = "{destination}"
emit = {emit}
{more}
"""


def a_rule(name: str, more: str = "", **changed: str) -> str:
    given = {"model": "lesionnet", "destination": "PACS@10.0.0.5:104", "emit": '["dicom-sr", "dicom-seg"]', **changed}
    return RULE.format(name=name, more=more, **given)


def rules_of(folder: Path, *rules: str) -> NodeRules:
    path = folder / "rules.toml"
    path.write_text(HEAD + "".join(rules))
    return read_rules(path, lambda model: model.name.partition("-")[0])


CHEST, BELLY = 'descriptions = ["*thorax*", "*chest*"]', 'descriptions = ["*abdomen*"]'


@pytest.mark.parametrize(
    ("one", "other", "series"),
    [
        (a_rule("a"), a_rule("b"), "a CT series for PACS@10.0.0.5:104"),
        (a_rule("a", CHEST), a_rule("b"), "a CT series called 'thorax'"),
        (a_rule("a", CHEST), a_rule("b", BELLY), "a CT series called 'abdomenthorax'"),
        (a_rule("a", 'modalities = ["MR", "CT"]'), a_rule("b", 'modalities = ["MR"]'), "a MR series"),
        (a_rule("a", "modalities = []"), a_rule("b", 'modalities = ["PT"]'), "a PT series"),
        (a_rule("a", 'peers = ["PACS", "CT1"]'), a_rule("b", 'peers = ["CT1"]'), "a CT series"),
        (a_rule("a", "least_score = 0.3"), a_rule("b", "least_score = 0.5\nleast_images = 20"), "a CT series"),
        (a_rule("a"), a_rule("b", model="./lesionnet"), "a CT series"),
        (a_rule("a"), a_rule("b", model="lesionnet-2"), "a CT series"),  # it calls itself the same
    ],
)
def test_rules_that_can_take_one_series_are_one_line_with_such_a_series(
    tmp_path: Path, one: str, other: str, series: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        rules_of(tmp_path, one, other)
    said = str(caught.value)
    assert said.startswith(f"{tmp_path / 'rules.toml'}: [[rule]] a and b: both would show lesionnet {series}")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (a_rule("a"), a_rule("b", model="seed")),
        (a_rule("a"), a_rule("b", destination="OTHER@10.0.0.6:104")),
        (a_rule("a"), a_rule("b", emit='["dicom-seg"]')),
        (a_rule("a", 'peers = ["PACS"]'), a_rule("b", 'peers = ["CT1"]')),
        (a_rule("a"), a_rule("b", 'modalities = ["MR"]')),
        (a_rule("a", CHEST), a_rule("b", BELLY + '\nnot_descriptions = ["*thorax*", "*CHEST*"]')),
        (a_rule("a", "slice_thickness_mm = [0, 2.4]"), a_rule("b", "slice_thickness_mm = [2.5, 5]")),
        (a_rule("a", 'body_parts = ["CHEST*"]'), a_rule("b", 'body_parts = ["ABDOMEN"]')),
        (a_rule("a", 'descriptions = ["*[lung]"]'), a_rule("b", 'descriptions = ["*l"]')),  # a bracket is a bracket
    ],
)
def test_rules_that_can_never_take_one_series_or_report_elsewhere_are_well(
    tmp_path: Path, one: str, other: str
) -> None:
    assert len(rules_of(tmp_path, one, other).rules) == 2


PATTERNS = st.lists(st.text("ab*?", max_size=5), max_size=3).map(tuple)
LIMITS = st.sampled_from([(), (0.0, 1.0), (1.0, 2.0), (1.5, 3.0)])
RULES = st.builds(
    SeriesRule, st.just("a"), st.just(Path("model")), st.just("PACS@10.0.0.5:104"),
    modalities=st.lists(st.sampled_from(["CT", "MR"]), max_size=2).map(tuple),
    descriptions=PATTERNS, not_descriptions=PATTERNS, body_parts=PATTERNS, slice_thickness_mm=LIMITS,
)  # fmt: skip
SERIES = st.builds(
    ReceivedSeries, st.just("1.2"), st.sampled_from(["CT", "MR"]), st.text("abcABÄ", max_size=5),
    st.text("abc", max_size=4), st.sampled_from([None, 0.5, 1.0, 1.5, 2.5]), st.just(("1.2.1",)),
)  # fmt: skip


@given(RULES, RULES, SERIES)
def test_the_named_series_is_taken_by_both_and_where_there_is_none_no_series_is(
    one: SeriesRule, other: SeriesRule, series: ReceivedSeries
) -> None:
    shared = shared_series(one, other)
    if shared is None:
        assert not (one.wants(series) and other.wants(series))
    else:
        shared = replace(shared, sop_instance_uids=("1.2.1",))
        assert one.wants(shared)
        assert other.wants(shared)


def test_many_patterns_are_followed_at_once() -> None:
    """Radiology departments name many series."""
    words = [f"*{name}{number}*" for name in ("thorax", "abdomen", "neck") for number in range(8)]
    assert common_text([words, words[:4]], words[4:]) == "thorax0"
    assert common_text([words[:4]], words[:4]) is None
