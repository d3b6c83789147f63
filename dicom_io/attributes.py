"""Single values of a data set, whatever is in it: nothing here raises for bad input.

Values of a pydicom data set are converted when they are first asked for; what its conversions raise for
broken ones is named once, in `DECODING_ERRORS`.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from threading import Lock
from typing import Any

from pydicom import config
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag

DECODING_ERRORS = (
    BytesLengthException,
    InvalidDicomError,
    ValueError,  # UnicodeError among them
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    NotImplementedError,
    EOFError,
    OSError,
    RecursionError,
    struct.error,
)
"""What pydicom raises for values and encodings that it cannot read."""


class _Quiet:
    """How many callers read quietly just now; the first one in changes pydicom's settings, the last one restores."""

    lock = Lock()
    inside = 0
    restore = ExitStack()


@contextmanager
def quiet() -> Iterator[None]:
    """Within it pydicom neither warns about nor refuses values that break a VR's rules; for any number of threads."""
    with _Quiet.lock:
        if _Quiet.inside == 0:
            _Quiet.restore.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", module=r"pydicom(\.|$)")
            _Quiet.restore.enter_context(config.disable_value_validation())
        _Quiet.inside += 1
    try:
        yield
    finally:
        with _Quiet.lock:
            _Quiet.inside -= 1
            if _Quiet.inside == 0:
                _Quiet.restore.close()


def _stored(ds: Dataset, keyword: str) -> Any:
    """What pydicom makes of the element; None where it is absent, raises where it cannot be converted."""
    # By tag, since pydicom takes four times as long to find by its keyword what is not there.
    tag = _tag(keyword)
    return ds[tag].value if tag in ds else None


@cache
def _tag(keyword: str) -> BaseTag:
    return Tag(keyword)


def value(ds: Dataset, keyword: str) -> object:
    """The element's value as pydicom gives it; None where it is absent, empty or cannot be converted."""
    try:
        found = _stored(ds, keyword)
    except DECODING_ERRORS:
        return None
    if found is None or (isinstance(found, str | bytes | MultiValue | Sequence) and len(found) == 0):
        return None
    return found


def text(ds: Dataset, keyword: str) -> str:
    """The element's first value as text without padding; '' where there is none."""
    found = value(ds, keyword)
    if isinstance(found, MultiValue):
        found = found[0]
    if found is None or isinstance(found, Sequence):
        return ""
    if isinstance(found, bytes):
        return found.decode("ascii", "replace").strip(" \0")
    return str(found).strip(" \0")


def texts(ds: Dataset, keyword: str) -> tuple[str, ...]:
    """All values as text; () where there is none."""
    found = value(ds, keyword)
    if isinstance(found, MultiValue):
        return tuple(str(one).strip(" \0") for one in found)
    alone = text(ds, keyword)
    return (alone,) if alone else ()


def numbers(ds: Dataset, keyword: str) -> tuple[float, ...] | None:
    """All values as floats; () where the element is absent or empty, None where a value is no number."""
    try:
        found = _stored(ds, keyword)
        if found is None or found == "":
            return ()
        values = found if isinstance(found, MultiValue | list | tuple) else (found,)
        return tuple(float(one) for one in values)
    except DECODING_ERRORS:
        return None


def number(ds: Dataset, keyword: str) -> float | None:
    """The first value as a float; None where there is none or it is no number."""
    found = numbers(ds, keyword)
    return found[0] if found else None


def integer(ds: Dataset, keyword: str) -> int | None:
    """The first value as an int; None where there is none or it is no whole number."""
    found = number(ds, keyword)
    if found is None or not found.is_integer():
        return None
    return int(found)


def items(ds: Dataset, keyword: str) -> tuple[Dataset, ...]:
    """The items of a sequence; () where it is absent, empty, no sequence or cannot be read."""
    found = value(ds, keyword)
    return tuple(found) if isinstance(found, Sequence) else ()


def first(ds: Dataset, keyword: str) -> Dataset | None:
    """The first item of a sequence; None where there is none."""
    found = items(ds, keyword)
    return found[0] if found else None
