"""The rule file: what it may say, and that every mistake in it is named with its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplesion_miner.errors import ConfigError
from dicom_io.node import NodeRules, read_rules
from dicom_io.node.records import ReceivedSeries
from dicom_io.node.rules import PeerRule, SeriesRule

WHOLE = """
[[peer]]
ae_title = "PACS"
host = "10.0.0.5"
archive = "PACS@10.0.0.5:104"
quiet_s = 12
objects_per_minute = 6000

[[peer]]
ae_title = "CT1"

[[rule]]
name = "lesions"
peers = ["PACS"]
modalities = ["CT"]
descriptions = ["*thorax*", "*chest*"]
not_descriptions = ["*lung*"]
body_parts = ["CHEST", "ABDOMEN"]
slice_thickness_mm = [0.5, 5]
least_images = 2
model = "models/lesionnet"
emit = ["dicom-sr", "dicom-seg"]
destination = "PACS@10.0.0.5:104"
"""


def rules_of(tmp_path: Path, text: str) -> NodeRules:
    path = tmp_path / "rules.toml"
    path.write_text(text)
    return read_rules(path)


def series(**changed: object) -> ReceivedSeries:
    facts: dict[str, object] = {
        "series_instance_uid": "1.2",
        "modality": "CT",
        "description": "Thorax 1.0 B30f",
        "body_part": "CHEST",
        "slice_thickness_mm": 1.0,
        "sop_instance_uids": ("1.2.1", "1.2.2"),
    }
    return ReceivedSeries(**{**facts, **changed})  # type: ignore[arg-type]


def test_a_destination_is_called_what_the_outbox_calls_it(tmp_path: Path) -> None:
    rules = rules_of(tmp_path, WHOLE.replace('destination = "PACS@10.0.0.5:104"', 'destination = "https://pacs/web/"'))
    assert rules.destinations() == ("https://pacs/web",)


def test_a_whole_file_is_read_and_models_lie_relative_to_it(tmp_path: Path) -> None:
    rules = rules_of(tmp_path, WHOLE)
    assert [one.ae_title for one in rules.peers] == ["PACS", "CT1"]
    (rule,) = rules.rules
    assert rule.model == tmp_path / "models" / "lesionnet"
    assert rule.slice_thickness_mm == (0.5, 5.0)
    assert rules.of_peer("PACS") == (rule,)
    assert rules.of_peer("CT1") == ()
    assert rules.destinations() == ("PACS@10.0.0.5:104",)
    peer = rules.peer("PACS")
    assert peer is not None
    assert (peer.quiet_s, peer.objects_per_minute, peer.associations) == (12.0, 6000.0, 8)


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({}, True),
        ({"description": "CHEST axial"}, True),
        ({"modality": "MR"}, False),
        ({"description": "Abdomen"}, False),
        ({"description": "Thorax LUNG"}, False),
        ({"body_part": "HEAD"}, False),
        ({"slice_thickness_mm": 7.0}, False),
        ({"slice_thickness_mm": None}, False),
        ({"sop_instance_uids": ("1.2.1",)}, False),
    ],
)
def test_a_rule_takes_the_series_that_fit_in_every_respect(
    tmp_path: Path, changed: dict[str, object], wanted: bool
) -> None:
    (rule,) = rules_of(tmp_path, WHOLE).rules
    assert rule.wants(series(**changed)) is wanted


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('ae_title = "CT1"', "", r"\[\[peer\]\] 2: ae_title is missing"),
        ('ae_title = "CT1"', 'ae_title = "PACS"', r"\[\[peer\]\] PACS: is there twice"),
        ('ae_title = "CT1"', 'ae_title = "a title that is too long"', "from 1 to 16"),
        ("quiet_s = 12", 'quiet_s = "12"', r"quiet_s = '12': expected a number"),
        ("quiet_s = 12", "quiet_s = 0", "more than 0 is needed"),
        ("quiet_s = 12", "quiet = 12", r"quiet is not known; did you mean quiet_s\?"),
        ('host = "10.0.0.5"', 'host = "pacs.example"', "host = 'pacs.example'"),
        ('archive = "PACS@10.0.0.5:104"', 'archive = "10.0.0.5:104"', "expected AET@host:port"),
        ('emit = ["dicom-sr", "dicom-seg"]', 'emit = ["sr"]', "'sr' is no kind; kinds are dicom-sr"),
        ('emit = ["dicom-sr", "dicom-seg"]', "emit = []", "name at least one kind"),
        ('emit = ["dicom-sr", "dicom-seg"]', 'emit = "dicom-sr"', "expected a list, in brackets"),
        ('peers = ["PACS"]', 'peers = ["MR1"]', r"\[\[rule\]\] 1: peers: MR1 is no \[\[peer\]\]"),
        ('modalities = ["CT"]', 'modality = ["CT"]', "did you mean modalities"),
        ("slice_thickness_mm = [0.5, 5]", "slice_thickness_mm = [5, 0.5]", r"expected \[least, most\]"),
        ("least_images = 2", "least_images = 2.5", "expected a whole number"),
        ("least_images = 2", "least_score = 2", "expected 0 to 1"),
        ("least_images = 2", 'incomplete = "maybe"', "expected 'wait' or 'run'"),
        ('name = "lesions"', 'name = ""', "a name is needed"),
        ('destination = "PACS@10.0.0.5:104"', 'destination = "PACS"', "destination = 'PACS'"),
        ("[[rule]]", "[rule]", r"rule: write \[\[rule\]\], with two brackets"),
        ("[[rule]]", "[[rules]]", r"\[\[rules\]\] is not known"),
        ("[[peer]]", "[[peer", "not TOML"),
    ],
)
def test_a_mistake_is_named_with_its_table_its_key_and_what_is_expected(
    tmp_path: Path, old: str, new: str, named: str
) -> None:
    assert old in WHOLE
    with pytest.raises(ConfigError, match=named) as caught:
        rules_of(tmp_path, WHOLE.replace(old, new))
    assert str(tmp_path / "rules.toml") in str(caught.value)


@pytest.mark.parametrize("destination", ["https://user:s3cret@pacs/web", "user:s3cret@pacs"])
def test_a_password_in_a_destination_is_refused_and_not_repeated(tmp_path: Path, destination: str) -> None:
    secret = WHOLE.replace('destination = "PACS@10.0.0.5:104"', f'destination = "{destination}"')
    assert secret != WHOLE
    with pytest.raises(ConfigError, match="destination") as caught:
        rules_of(tmp_path, secret)
    assert "s3cret" not in str(caught.value)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)quiet_s.*emit"):
        rules_of(tmp_path, WHOLE.replace("quiet_s = 12", "quiet_s = -1").replace('"dicom-seg"', '"seg"'))


def test_a_file_without_peers_or_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nobody could send"):
        rules_of(tmp_path, "")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_rules(tmp_path / "none.toml")


def test_the_digest_changes_with_the_objects_and_with_the_rule_and_with_nothing_else() -> None:
    rule = SeriesRule("one", Path("model"), "PACS@host:104")
    same = SeriesRule("one", Path("model"), "PACS@host:104")
    more = series(sop_instance_uids=("1.2.1", "1.2.2", "1.2.3"))
    assert rule.digest([series()]) == same.digest([series()])
    assert rule.digest([series()]) != rule.digest([more])
    assert rule.digest([series()]) != SeriesRule("one", Path("other"), "PACS@host:104").digest([series()])


@given(st.text(alphabet=st.characters(blacklist_categories=["Cs"]), max_size=40))
def test_no_description_breaks_a_rule(description: str) -> None:
    rule = SeriesRule("one", Path("model"), "PACS@host:104", descriptions=("*",))
    assert rule.wants(series(description=description))


def test_peers_become_what_the_gate_knows() -> None:
    peer = PeerRule("CT1", "10.0.0.6", associations=3, objects_per_minute=60, report_to="CT1@10.0.0.6:104").peer()
    assert (peer.ae_title, peer.host, peer.associations, peer.objects_per_minute, peer.report_to) == (
        "CT1", "10.0.0.6", 3, 60, "CT1@10.0.0.6:104")  # fmt: skip
