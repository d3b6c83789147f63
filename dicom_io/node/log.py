"""What the node says of itself: one JSON object a line, without names of patients.

Patients are never named, and studies and objects only by a short hash under the node's own key, so that lines of
one study can be found together and lead nowhere without the journal. Of errors it holds their kind and our own words
(`failures`); their texts, which are others', only where the log is verbose.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
import threading
from datetime import UTC, datetime
from typing import TextIO

from dicom_io.node import failures

_UID = re.compile(r"\b(?:[0-2](?:\.[0-9]+){4,}|2\.25\.[0-9]{4,})\b")
"""A UID within a text (PS3.5 9.1, B.2); numeric addresses of hosts have fewer parts."""

Value = str | int | float | bool | None

_NOTHING_BUT_ITS_VALUE = "%s"
_ROOM = __name__.partition(".")[0]


class NodeLog:
    """Writes to `stream`; `verbose` writes UIDs as they are and keeps lines of level debug."""

    def __init__(self, stream: TextIO, key: bytes, *, verbose: bool = False) -> None:
        self._stream = stream
        self._key = key
        self._verbose = verbose
        self._lock = threading.Lock()

    def name(self, uid: str) -> str:
        """What a UID is called in the log: 12 hex digits, or itself where the log is verbose."""
        if self._verbose:
            return uid
        return hmac.new(self._key, uid.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()[:12]

    def debug(self, event: str, **values: Value) -> None:
        """One of very many, e.g. each object."""
        if self._verbose:
            self._write("debug", event, values)

    def info(self, event: str, cause: BaseException | None = None, /, **values: Value) -> None:
        """Something went its way, or will by itself."""
        self._write("info", event, values, cause)

    def warning(self, event: str, cause: BaseException | None = None, /, **values: Value) -> None:
        """Something was refused or will be tried again."""
        self._write("warning", event, values, cause)

    def error(self, event: str, cause: BaseException | None = None, /, **values: Value) -> None:
        """Something needs a person."""
        self._write("error", event, values, cause)

    def overheard(self, module: str, why: str, text: str, cause: BaseException | None) -> None:
        """A warning of another module: its own words or its error's kind, and all of it where the log is verbose."""
        values: dict[str, Value] = {"module": module}
        if cause is None or why != _NOTHING_BUT_ITS_VALUE:
            values["why"] = why
        if self._verbose:
            values["text"] = text
        self._write("warning", "warned", values, cause)

    def _write(self, level: str, event: str, values: dict[str, Value], cause: BaseException | None = None) -> None:
        if cause is not None:
            values = {"why": failures.words(cause), **values, "kind": failures.kind(cause)}
            if self._verbose:
                values["text"] = str(cause)
        told = {name: self._without_uids(value) for name, value in values.items()}
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"at": at, "level": level, "event": event, **told}, default=str)
        with self._lock:
            self._stream.write(line + "\n")
            self._stream.flush()

    def _without_uids(self, value: Value) -> Value:
        """Whatever a value is made of, UIDs within it are short names, too."""
        if self._verbose or not isinstance(value, str):
            return value
        return _UID.sub(lambda found: self.name(found[0]), value)


class Overheard(logging.Handler):
    """What this room's modules warn of by `logging`, as lines of the node while the context is open.

    They quote archives, and name objects: the values of a message are told only where the log is verbose.
    """

    def __init__(self, log: NodeLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """One line; `why` is the message before its values are put in."""
        values = record.args if isinstance(record.args, tuple) else ()
        cause = next((one for one in values if isinstance(one, BaseException)), None)
        self._log.overheard(record.name, str(record.msg), record.getMessage(), cause)

    def __enter__(self) -> Overheard:
        room = logging.getLogger(_ROOM)
        room.addHandler(self)
        room.propagate = False
        return self

    def __exit__(self, *exception: object) -> None:
        room = logging.getLogger(_ROOM)
        room.removeHandler(self)
        room.propagate = True
