"""`croissant.json`: the dataset described for machines (MLCommons Croissant 1.0, JSON-LD)."""

from __future__ import annotations

import json
from collections.abc import Iterable

from dataset_builder import layout
from dataset_builder.card import CardSettings
from dataset_builder.manifest import FileEntry
from dataset_builder.schema import TABLES, Column, columns, key, schema_version

CONFORMS_TO = "http://mlcommons.org/croissant/1.0"
DATA_TYPES = {
    "string": "sc:Text",
    "string[]": "sc:Text",
    "int32": "sc:Integer",
    "float64": "sc:Float",
    "float64[4]": "sc:Float",
    "bool": "sc:Boolean",
}
REPEATED = frozenset({"string[]", "float64[4]"})
CONTEXT: dict[str, object] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "equivalentProperty": "cr:equivalentProperty",
    "samplingRate": "cr:samplingRate",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def croissant(files: Iterable[FileEntry], settings: CardSettings) -> bytes:
    """The file's bytes; `files` holds at least the Parquet files and DL_info.csv with their hashes."""
    known = {file.path: file for file in files}
    description = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": "deeplesion-mined-lesions",
        "alternateName": settings.title,
        "description": "RECIST measurements of lesions on CT slices, mined from a DICOM archive and de-identified.",
        "license": settings.license,
        "version": f"{schema_version()}.0.0",
        "distribution": [
            *(_file(known[f"{table}.parquet"], "application/x-parquet") for table in TABLES),
            _file(known[layout.DL_INFO], "text/csv"),
            {
                "@type": "cr:FileSet",
                "@id": "images",
                "name": "images",
                "description": "16-bit grayscale PNG, pixel = HU + 32768.",
                "encodingFormat": "image/png",
                "includes": f"{layout.IMAGES}/*/*.png",
            },
        ],
        "recordSet": [_record_set(table) for table in TABLES],
    }
    return (json.dumps(description, indent=1, ensure_ascii=False) + "\n").encode("utf-8")


def _file(file: FileEntry, encoding: str) -> dict[str, object]:
    return {
        "@type": "cr:FileObject",
        "@id": file.path,
        "name": file.path,
        "contentUrl": file.path,
        "contentSize": f"{file.bytes} B",
        "encodingFormat": encoding,
        "sha256": file.sha256,
    }


def _record_set(table: str) -> dict[str, object]:
    return {
        "@type": "cr:RecordSet",
        "@id": table,
        "name": table,
        "key": [{"@id": f"{table}/{name}"} for name in key(table)],
        "field": [_field(table, column) for column in columns(table)],
    }


def _field(table: str, column: Column) -> dict[str, object]:
    unit = f" Unit: {column.unit}." if column.unit else ""
    field: dict[str, object] = {
        "@type": "cr:Field",
        "@id": f"{table}/{column.name}",
        "name": column.name,
        "description": column.meaning + unit,
        "dataType": DATA_TYPES[column.type],
        "source": {"fileObject": {"@id": f"{table}.parquet"}, "extract": {"column": column.name}},
    }
    if column.type in REPEATED:
        field["repeated"] = True
    return field
