"""The DICOM JSON Model and the Native DICOM Model in XML (PS3.18 annex F, PS3.19 A.1), as far as answers need them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from deeplesion_miner.errors import ConfigError

Attributes = Mapping[str, Any]
"""Elements by tag in eight hexadecimal digits, as the JSON model has them."""


def data_sets(body: bytes, content_type: str) -> list[Attributes]:
    """The data sets of an answer; one that is empty holds none. Raises `ConfigError` where it is no such thing."""
    if not body.strip():
        return []
    try:
        if "xml" in content_type:
            return [_from_xml(ElementTree.fromstring(body))]
        found = json.loads(body)
    except (ValueError, RecursionError, ElementTree.ParseError) as error:
        raise ConfigError(f"the answer is neither DICOM JSON nor XML: {error}") from error
    listed = found if isinstance(found, list) else [found]
    if not all(isinstance(one, dict) for one in listed):
        raise ConfigError("the answer is JSON, but no data set")
    return listed


def text(attributes: Attributes, tag: str) -> str:
    """The first value as text, '' where there is none."""
    values = _values(attributes, tag)
    return str(values[0]).strip(" \0") if values and values[0] is not None else ""


def integer(attributes: Attributes, tag: str) -> int | None:
    """The first value as a number, None where there is none."""
    try:
        return int(text(attributes, tag))
    except ValueError:
        return None


def items(attributes: Attributes, tag: str) -> list[Attributes]:
    """The items of a sequence."""
    return [one for one in _values(attributes, tag) if isinstance(one, dict)]


def _values(attributes: Attributes, tag: str) -> list[Any]:
    element = attributes.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def _from_xml(node: ElementTree.Element) -> dict[str, Any]:
    """The same by tag, of a NativeDicomModel or an Item; person names are left out."""
    found: dict[str, Any] = {}
    for element in node:
        tag = element.get("tag", "").upper()
        values: list[Any] = [child.text or "" for child in element if _name(child) == "Value"]
        values += [_from_xml(child) for child in element if _name(child) == "Item"]
        found[tag] = {"Value": values}
    return found


def _name(node: ElementTree.Element) -> str:
    return node.tag.rpartition("}")[2]
