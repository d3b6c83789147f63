"""Which report of a reader is a later state of which report of ours.

By the predecessor that it names (PS3.3 C.17.2.2), else by the series that it lies in, else, for viewers that tell
neither (OHIF 3.11: seen), by label and place of its marks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from deeplesion_miner.feedback_geometry import distance
from deeplesion_miner.feedback_marks import FeedbackSettings, Mark, Planes, marks_of
from deeplesion_miner.feedback_pairs import UNTOUCHED, is_link
from deeplesion_miner.feedback_reports import ReadReport, known_reader
from deeplesion_miner.merge import SAVES_WITHOUT_PREDECESSOR


@dataclass(frozen=True)
class Tip:
    """A re-save that counts."""

    uid: str
    """SOP Instance UID."""
    link: str
    """How it was found: 'predecessor', 'same_series' or 'label_and_place'."""


@dataclass
class Chain:
    """What followed one report of ours."""

    ours: str
    """SOP Instance UID of the report itself."""
    saves: list[str] = field(default_factory=list)
    """SOP Instance UIDs of its re-saves, oldest first, rejected ones among them."""
    tips: tuple[Tip, ...] = ()
    """The newest re-save that is not rejected; of readers who each opened our report itself the newest of each."""
    is_corrected: bool = False
    """A report of ours names it as its predecessor."""

    def tip_of(self, uid: str) -> Tip | None:
        """The re-save among those that count."""
        return next((tip for tip in self.tips if tip.uid == uid), None)


def chains(
    reports: Sequence[ReadReport], rejected: Collection[str], planes: Planes, settings: FeedbackSettings
) -> dict[str, Chain]:
    """The chain of each report of ours, by its SOP Instance UID; a re-save may follow several of them."""
    return _Linking(reports, rejected, planes, settings).run()


class _Linking:
    """Reports of one study, taken from the oldest on."""

    def __init__(
        self, reports: Sequence[ReadReport], rejected: Collection[str], planes: Planes, settings: FeedbackSettings
    ) -> None:
        self.by_uid = {one.uid: one for one in reports}
        self.rejected = rejected
        self.settings = settings
        self.marks: Mapping[str, list[Mark]] = {
            one.uid: [mark for mark in marks_of(one, planes, settings) if mark.is_measured] for one in reports
        }
        self.on_image = {uid: _by_image(marks) for uid, marks in self.marks.items()}
        named = {p for one in reports if one.author is not None for p in one.source.predecessors}
        self.chains = {
            one.uid: Chain(one.uid, is_corrected=one.uid in named)
            for one in reports
            if one.author is not None and self.marks[one.uid]
        }
        self.families: dict[str, frozenset[str]] = {uid: frozenset((uid,)) for uid in self.chains}

    def run(self) -> dict[str, Chain]:
        others = [one for one in self.by_uid.values() if one.author is None]
        for report in _oldest_first(others):
            family, link = self._family(report)
            self.families[report.uid] = family
            for uid in sorted(family):
                chain = self.chains[uid]
                chain.saves.append(report.uid)
                if report.uid not in self.rejected:
                    beside = tuple(tip for tip in chain.tips if self._is_beside(tip, report, link))
                    chain.tips = (*beside, Tip(report.uid, link))
        return self.chains

    def _is_beside(self, tip: Tip, report: ReadReport, link: str) -> bool:
        """Whether the newer report leaves the older one standing: by another reader, who did not start from it."""
        readers = {_plain(self.by_uid[tip.uid].reader), _plain(report.reader)}
        by_two = len(readers) == 2 and "" not in readers
        return by_two and link == "predecessor" and tip.uid not in self._ancestors(report)

    def _ancestors(self, report: ReadReport) -> frozenset[str]:
        """All reports that it names, and those that they name, and so on."""
        found: set[str] = set()
        waiting = [report.uid]
        while waiting:
            named = set(self.by_uid[waiting.pop()].source.predecessors) & self.by_uid.keys() - found
            found |= named
            waiting += sorted(named)
        return frozenset(found)

    def _family(self, report: ReadReport) -> tuple[frozenset[str], str]:
        """Our reports that this one follows, and by what; empty where it is a reader's own."""
        named = [uid for uid in report.source.predecessors if uid in self.by_uid and uid != report.uid]
        if named:
            return self._union(named), "predecessor"
        series = report.source.series_instance_uid
        beside = [uid for uid in self.families if self.by_uid[uid].source.series_instance_uid == series and series]
        if self._union(beside):
            return self._union(beside), "same_series"
        if report.source.writer == SAVES_WITHOUT_PREDECESSOR:
            return self._by_place(report), "label_and_place"
        return frozenset(), ""

    def _union(self, uids: Iterable[str]) -> frozenset[str]:
        return frozenset().union(*(self.families.get(uid, frozenset()) for uid in uids))

    def _by_place(self, report: ReadReport) -> frozenset[str]:
        """Each mark speaks for the report of ours that it fits best, in its first or its latest state; the newest
        of several that fit alike."""
        family = set()
        before = [chain for uid, chain in self.chains.items() if self._may_follow(report, self.by_uid[uid])]
        before.sort(key=lambda chain: _age(self.by_uid[chain.ours]), reverse=True)
        for mark in self.marks[report.uid]:
            fits = [
                (strength, 0.0 if strength == UNTOUCHED else distance(old, mark), rank)
                for rank, chain in enumerate(before)
                for state in (chain.ours, *chain.saves)
                for old in self.on_image[state].get(mark.image, ())
                if (strength := is_link(old, mark, self.settings)) is not None
            ]
            if fits:
                family.add(before[min(fits)[2]].ours)
        return frozenset(family)

    def _may_follow(self, report: ReadReport, ours: ReadReport) -> bool:
        """False where both times are known and ours is not the earlier one, or where ours was made from it."""
        earlier, later = ours.source.content_datetime, report.source.content_datetime
        return (not earlier or not later or earlier < later) and report.uid not in ours.source.predecessors


def _plain(reader: str) -> str:
    """A reader's name without what spellings of one person differ in: case and empty components (PS3.5 6.2.1)."""
    return known_reader(reader).rstrip("^= ").casefold()


def _by_image(marks: Iterable[Mark]) -> Mapping[tuple[str, int] | None, list[Mark]]:
    found: dict[tuple[str, int] | None, list[Mark]] = {}
    for mark in marks:
        found.setdefault(mark.image, []).append(mark)
    return found


def _age(report: ReadReport) -> tuple[str, str]:
    return report.source.content_datetime, report.uid


def _oldest_first(reports: Iterable[ReadReport]) -> list[ReadReport]:
    """By time, but no report before one that it names; of those that name one another the oldest first."""
    waiting = sorted(reports, key=_age)
    ordered = []
    while waiting:
        uids = {one.uid for one in waiting}
        free = [one for one in waiting if not uids.intersection(one.source.predecessors) - {one.uid}]
        following = (free or waiting)[0]
        waiting.remove(following)
        ordered.append(following)
    return ordered
