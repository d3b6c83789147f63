"""An encoded data set, read in one walk without recursion that sees whether it is whole and how deep it nests.

pydicom reads nested sequences by recursion, takes a file that ends early for a short one, and trusts lengths.
`build` does none of this and gives the same data set, whose values pydicom converts when they are asked for.
Encoding rules: PS3.5 section 7 (elements, sequences of items), annex A (transfer syntaxes).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import lru_cache

from pydicom.charset import convert_encodings, default_encoding
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
SPECIFIC_CHARACTER_SET = 0x00080005
PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
"""With a length of two bytes (PS3.5 table 7.1-2)."""
LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
"""With a length of four bytes after two that are reserved (PS3.5 table 7.1-1)."""
DELIMITER_GROUP = 0xFFFE
KNOWN_TAGS = 8192
"""So many tags are remembered to be sequences or not; the dictionary of the standard has some five thousand."""


class BrokenStructure(ValueError):
    """The bytes are no data set in the stated encoding; `why` is a code of an unreadable reason."""

    def __init__(self, why: str, text: str) -> None:
        super().__init__(text)
        self.why = why


@dataclass(frozen=True)
class Encoding:
    """How a data set is written."""

    implicit: bool
    little: bool


@dataclass(frozen=True)
class Built:
    """A data set and where the walk ended: `stopped` at a tag that it was to stop at, else with the data."""

    dataset: Dataset
    end: int
    stopped: bool


def never(tag: int) -> bool:
    """Stops nowhere: the whole data set."""
    return False


def at_pixels(tag: int) -> bool:
    """Stops before pixel data."""
    return tag in PIXEL_TAGS


def after_meta(tag: int) -> bool:
    """Stops after the file meta information (group 2)."""
    return tag >> 16 != 2


def build(
    data: bytes,
    start: int,
    encoding: Encoding,
    stop: Callable[[int], bool],
    max_depth: int,
    only: AbstractSet[int] | None = None,
) -> Built:
    """The data set from `start` to the end or to the first top-level tag that `stop` names, as pydicom reads it.

    Its sequences are read at once and to any depth up to `max_depth`. `only` names the top-level tags that the
    data set shall have, and SpecificCharacterSet (0008,0005) with them; the others are walked over. Raises
    BrokenStructure with 'truncated' where the bytes end inside an element, with 'too_deep' beyond `max_depth`, else
    with 'bad_encoding'.
    """
    walk = _Walk(data, start, encoding, stop, max_depth, only)
    walk.run()
    return Built(walk.root.finish(), walk.position, walk.stopped)


@dataclass
class _Level:
    """An open data set (`items` is None) or an open sequence, up to `end`; `closed_by_tag` = undefined length."""

    end: int
    closed_by_tag: bool
    encoding: Encoding
    charset: str | list[str]
    tag: int = 0
    kept: bool = True
    """False inside a sequence that nobody asked for."""
    elements: dict[BaseTag, DataElement | RawDataElement] = field(default_factory=dict)
    items: list[Dataset] | None = None

    def finish(self) -> Dataset:
        ds = Dataset(self.elements)
        ds.set_original_encoding(self.encoding.implicit, self.encoding.little, self.charset)
        ds.is_undefined_length_sequence_item = self.closed_by_tag
        return ds


@dataclass
class _Header:
    tag: int
    vr: bytes | None
    length: int
    value_at: int


class _Walk:
    """One pass over the bytes with an explicit stack of open data sets and sequences."""

    def __init__(
        self,
        data: bytes,
        start: int,
        encoding: Encoding,
        stop: Callable[[int], bool],
        max_depth: int,
        only: AbstractSet[int] | None,
    ) -> None:
        self.data, self.position, self.stop = data, start, stop
        self.max_depth = max_depth
        self.only = None if only is None else only | {SPECIFIC_CHARACTER_SET}
        self.stopped = False
        self.root = _Level(len(data), False, self._detected(start, encoding), default_encoding)
        self.stack = [self.root]

    def run(self) -> None:
        """Walks until the root is closed."""
        while self.stack:
            level = self.stack[-1]
            if self.position >= level.end:
                if level.closed_by_tag and self.position >= len(self.data):
                    raise BrokenStructure("truncated", "the file ends inside a sequence of undefined length")
                self._close()
            elif level.items is not None:
                self._item(level)
            else:
                self._plain_elements(level)
                if self.position < level.end:
                    self._element(level)

    # --- one step ----------------------------------------------------------------------------------------

    def _plain_elements(self, level: _Level) -> None:
        """Takes elements that hold neither items nor fragments: most of any data set, so without a call for each.

        Ends before anything else, also before anything wrong, which `_element` then looks at.
        """
        data, position, end, implicit = self.data, self.position, level.end, level.encoding.implicit
        header = struct.Struct(("<" if level.encoding.little else ">") + ("HHI" if implicit else "HH2sH"))
        at_top = len(self.stack) == 1
        vr: bytes | None = None
        while position + 8 <= end:
            if implicit:
                group, element, length = header.unpack_from(data, position)
            else:
                group, element, vr, length = header.unpack_from(data, position)
            tag = group << 16 | element
            following = position + 8 + length
            is_plain = not _is_sequence(tag) if implicit else vr in SHORT_VRS
            if not is_plain or following > end or group == DELIMITER_GROUP or (at_top and self.stop(tag)):
                break
            if self._is_wanted(tag, level):
                self._keep(_Header(tag, vr, length, position + 8), level, data[position + 8 : following])
            position = following
        self.position = position

    def _is_wanted(self, tag: int, level: _Level) -> bool:
        """Whether an element of the level goes into the data set."""
        return level.kept and (self.only is None or level is not self.root or tag in self.only)

    def _element(self, level: _Level) -> None:
        header = self._header(level)
        if header.tag == ITEM_END or (header.tag == SEQUENCE_END and len(self.stack) > 1):
            # A missing end of item before the end of its sequence is forgiven; the sequence reads its own end.
            if header.tag == ITEM_END:
                self.position = header.value_at
            self._close()
            return
        if len(self.stack) == 1 and self.stop(header.tag):
            self.stopped = True
            self.stack.clear()
            return
        inner = self._inner_encoding(header, level)
        if inner is not None:
            self._open_sequence(header, level, inner)
        elif header.length == UNDEFINED:
            self._skip_fragments(header, level)
        else:
            self._leaf(header, level)

    def _item(self, level: _Level) -> None:
        tag, length = self._tag_and_length(level.encoding)
        self.position += 8
        if tag == SEQUENCE_END:
            self._close()
            return
        if tag != ITEM:
            raise BrokenStructure(
                "bad_encoding", f"at byte {self.position - 8} an item was expected, found {_name(tag)}"
            )
        end = level.end if length == UNDEFINED else self._end_of(length, level.end, tag)
        encoding = self._detected(self.position, level.encoding)
        self.stack.append(_Level(end, length == UNDEFINED, encoding, level.charset, kept=level.kept))

    def _open_sequence(self, header: _Header, level: _Level, encoding: Encoding) -> None:
        self.position = header.value_at
        end = level.end if header.length == UNDEFINED else self._end_of(header.length, level.end, header.tag)
        kept = self._is_wanted(header.tag, level)
        opened = _Level(end, header.length == UNDEFINED, encoding, level.charset, header.tag, kept, items=[])
        self.stack.append(opened)
        if len(self.stack) // 2 > self.max_depth:
            raise BrokenStructure("too_deep", f"{_name(header.tag)} nests deeper than {self.max_depth} sequences")

    def _leaf(self, header: _Header, level: _Level) -> None:
        self.position = header.value_at
        end = self._end_of(header.length, level.end, header.tag)
        self.position = end
        if self._is_wanted(header.tag, level):
            self._keep(header, level, self.data[header.value_at : end])

    def _skip_fragments(self, header: _Header, level: _Level) -> None:
        """Encapsulated pixel data (PS3.5 A.4): items of bytes up to the end of the sequence."""
        self.position = header.value_at
        while True:
            tag, length = self._tag_and_length(level.encoding)
            if tag == SEQUENCE_END:
                break
            if tag != ITEM or length == UNDEFINED:
                raise BrokenStructure("bad_encoding", f"{_name(header.tag)} holds {_name(tag)} instead of a fragment")
            self.position += 8
            self.position = self._end_of(length, level.end, header.tag)
        if self._is_wanted(header.tag, level):
            self._keep(header, level, self.data[header.value_at : self.position])
        self.position += 8

    def _keep(self, header: _Header, level: _Level, value: bytes) -> None:
        tag, vr = BaseTag(header.tag), None if header.vr is None else header.vr.decode("ascii")
        raw = RawDataElement(
            tag, vr, header.length, value, header.value_at, level.encoding.implicit, level.encoding.little
        )
        level.elements[tag] = raw
        if header.tag == SPECIFIC_CHARACTER_SET:
            names = value.decode("ascii", "replace").strip(" \0").split("\\")
            level.charset = convert_encodings(names)

    def _close(self) -> None:
        closed = self.stack.pop()
        if not closed.closed_by_tag:
            self.position = closed.end
        if not self.stack or not closed.kept:
            return
        parent = self.stack[-1]
        if parent.items is not None:
            parent.items.append(closed.finish())
            return
        tag = BaseTag(closed.tag)
        sequence = Sequence(closed.items or [])
        sequence.is_undefined_length = closed.closed_by_tag
        parent.elements[tag] = DataElement(tag, "SQ", sequence, already_converted=True)

    # --- reading bytes -----------------------------------------------------------------------------------

    def _header(self, level: _Level) -> _Header:
        tag, length = self._tag_and_length(level.encoding)
        start = self.position
        if level.encoding.implicit or tag in (ITEM, ITEM_END, SEQUENCE_END):
            return _Header(tag, None, length, start + 8)
        vr = self.data[start + 4 : start + 6]
        if vr in LONG_VRS:
            if start + 12 > len(self.data):
                raise BrokenStructure("truncated", f"the file ends inside {_name(tag)}")
            (length,) = struct.unpack_from("<I" if level.encoding.little else ">I", self.data, start + 8)
            return _Header(tag, vr, length, start + 12)
        if vr in SHORT_VRS or b"AA" <= vr <= b"ZZ":
            (length,) = struct.unpack_from("<H" if level.encoding.little else ">H", self.data, start + 6)
            return _Header(tag, vr, length, start + 8)
        return _Header(tag, None, length, start + 8)  # a writer that changes to implicit VR on the way

    def _tag_and_length(self, encoding: Encoding) -> tuple[int, int]:
        if self.position + 8 > len(self.data):
            raise BrokenStructure("truncated", f"the file ends at byte {len(self.data)}, inside an element's header")
        group, element, length = struct.unpack_from("<HHI" if encoding.little else ">HHI", self.data, self.position)
        return group << 16 | element, length

    def _end_of(self, length: int, limit: int, tag: int) -> int:
        end = self.position + length
        if end > len(self.data):
            raise BrokenStructure(
                "truncated", f"{_name(tag)} needs {length} bytes, the file has {len(self.data) - self.position}"
            )
        if end > limit:
            raise BrokenStructure("bad_encoding", f"{_name(tag)} is longer than what holds it")
        return end

    def _inner_encoding(self, header: _Header, level: _Level) -> Encoding | None:
        """Encoding of the items where the element is a sequence, else None."""
        implicit_little = Encoding(implicit=True, little=True)
        undefined = header.length == UNDEFINED
        if header.vr == b"SQ":
            return level.encoding
        if header.vr == b"UN":  # PS3.5 section 6.2.2: of undefined length = a sequence, always implicit little endian
            return implicit_little if undefined or _is_sequence(header.tag) else None
        if header.vr is None and (_is_sequence(header.tag) or (undefined and header.tag not in PIXEL_TAGS)):
            return Encoding(True, level.encoding.little)
        return None

    def _detected(self, at: int, stated: Encoding) -> Encoding:
        """The encoding of the data set at `at`: some writers change VR in the items of a sequence."""
        vr = self.data[at + 4 : at + 6]
        if not stated.implicit and vr and not (vr.isalpha() and vr.isupper()):
            tag = self.data[at : at + 4]
            if tag[:2] not in (b"\xfe\xff", b"\xff\xfe"):
                return Encoding(True, stated.little)
        if stated.implicit and vr in SHORT_VRS | LONG_VRS:
            return Encoding(False, stated.little)
        return stated


@lru_cache(KNOWN_TAGS)
def _is_sequence(tag: int) -> bool:
    try:
        return bool(dictionary_VR(tag) == "SQ")
    except KeyError:
        return False


def _name(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
