"""`README.md`, the dataset card: what is in the folder, how it came about, what it must not be taken for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import schemas
from dataset_builder import layout, summary
from dataset_builder.dl_info import number
from dataset_builder.manifest import TOOL, tool_version
from dataset_builder.schema import TABLES, columns, schema_version
from dataset_builder.tables import Tables

SIZE_CATEGORIES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
LARGEST_CATEGORY = "n>1M"
NOT_STATED = "Not stated by the people who made this dataset."


@dataclass(frozen=True)
class CardSettings:
    """What only the people who make the dataset know. Public text: it is written as it is."""

    title: str = "Lesions mined from a DICOM archive"
    license: str = "other"
    """Identifier as the Hugging Face Hub knows it, e.g. 'cc-by-4.0'."""
    source: str = ""
    """Where and when the images were taken, which studies were asked for."""
    annotators: str = ""
    contact: str = ""
    """To whom a patient or a site turns to have data removed."""


def card(tables: Tables, settings: CardSettings) -> bytes:
    """The Markdown text, with the Hugging Face Hub's YAML header."""
    blocks = (
        _front_matter(tables, settings),
        f"# {settings.title}",
        _contents(tables),
        "## Source\n\n" + (settings.source or NOT_STATED),
        "## From the archive to the rows\n\n" + _funnel(tables),
        "## What is annotated\n\n" + _annotations(settings),
        "## Splits\n\nBy patient, by a keyed hash: a patient never changes sides when data are added.\n\n"
        + _splits(tables),
        "## Numbers\n\n" + _measures(tables),
        "## De-identification\n\n" + _DEIDENTIFICATION,
        "## Files\n\n" + _files(),
        "## Columns\n\nHow private a column is:\n\n" + _privacy(),
        *(f"### {name}.parquet\n\n{_columns(name)}" for name in TABLES),
        "## Known limits\n\n" + _LIMITS,
        "## Contact for removal\n\n" + (settings.contact or NOT_STATED),
        "## Made by\n\n"
        f"{TOOL} {tool_version()}, schema version {schema_version()}. The layout follows NIH DeepLesion (Yan, Wang, "
        "Lu, Summers, J. Med. Imaging 2018). `manifest.json` holds the hash of every file.",
    )
    return ("\n\n".join(blocks) + "\n").encode("utf-8")


_DEIDENTIFICATION = """\
No name, UID, date, accession number or free text of the archive is in any table, file name or picture: the tables
have no column for them. Patients, studies, series and bookmarks carry keyed pseudonyms; the way back is held by the
archive's side alone. Dates are shifted by a secret number of days per patient. Coded findings appear only as codes of
known schemes. Pixels are the CT numbers as stored; images that say they have burned-in annotation are left out.
A CT of the head can show a face: treat the images as personal data where your law does."""

_LIMITS = """\
- Not every lesion is marked: readers measure what they follow. An unmarked place is not a negative.
- Boxes are the RECIST ends with a margin, not outlines.
- `Coarse_lesion_type` is -1 and the z of `Normalized_lesion_location` is NaN unless a model filled them.
- Research only; not for diagnosis."""


def _front_matter(tables: Tables, settings: CardSettings) -> str:
    count = len(tables.lesions)
    category = next((name for limit, name in SIZE_CATEGORIES if count < limit), LARGEST_CATEGORY)
    configs = "\n".join(f"- config_name: {name}\n  data_files: {name}.parquet" for name in TABLES)
    title = settings.title.replace('"', "'")
    return (
        f'---\npretty_name: "{title}"\nlicense: {settings.license}\ntask_categories:\n- object-detection\n'
        f"tags:\n- medical\n- ct\n- lesion\n- recist\n- deeplesion\nsize_categories:\n- {category}\n"
        f"configs:\n{configs}\n---"
    )


def _contents(tables: Tables) -> str:
    return ", ".join(f"{count:,} {word}" for word, count in summary.totals(tables).items()) + "."


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = (head, ["---"] * len(head), *rows)
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _funnel(tables: Tables) -> str:
    funnel = summary.funnel(tables.bookmarks)
    lead = f"{funnel.found:,} bookmarks found = {funnel.kept:,} kept + {funnel.rejected:,} rejected."
    if not funnel.losses:
        return lead
    rows = [(f"`{loss.reason}`", f"{loss.count:,}", loss.example, loss.advice) for loss in funnel.losses]
    return f"{lead}\n\n" + _table(("rejected because", "bookmarks", "for instance", "what to do"), rows)


def _annotations(settings: CardSettings) -> str:
    return (
        f"Annotators: {settings.annotators or NOT_STATED}\n\nEach lesion is a mark that a reader left in the archive: "
        "a long and, mostly, a short axis on one axial CT slice. Lengths are computed from the ends. Flags (`notes`) "
        "name what is remarkable about a mark; `possibly_noisy` is set where a flag says that it may be wrong."
    )


def _splits(tables: Tables) -> str:
    rows = [(name, f"{patients:,}", f"{lesions:,}") for name, patients, lesions in summary.split_counts(tables)]
    return _table(("split", "patients", "lesions"), rows)


def _measures(tables: Tables) -> str:
    head = ("", "lesions", *(f"{q:.0%}" for q in summary.QUANTILES))
    rows = [
        (f"{m.name}{f', {m.unit}' if m.unit else ''}", f"{len(m.values):,}", *map(number, m.quantiles))
        for m in summary.measures(tables.lesions)
    ]
    return _table(head, rows)


def _files() -> str:
    described = {
        layout.DL_INFO: "one row a lesion, byte format of NIH DeepLesion's file: its loaders work unchanged",
        **{f"{name}.parquet": schemas.load("dataset")["tables"][name]["meaning"] for name in TABLES},
        f"{layout.IMAGES}/": "16-bit grayscale PNG, pixel = HU + 32768; key slices and their context",
        layout.REPORT: "the funnel, statistics and lesions as one page",
        layout.CONTACT_SHEET: "the lesions as one picture",
        layout.CROISSANT: "the same description for machines (Croissant)",
        layout.MANIFEST: "every file with its SHA-256, and the digest of the dataset",
    }
    convention = schemas.load("dataset")["pixel_convention"]
    return f"Coordinates: {convention}.\n\n" + _table(
        ("file", "content"), [(f"`{name}`", text) for name, text in described.items()]
    )


def _columns(table: str) -> str:
    head = ("column", "type", "unit", "meaning", "privacy", "DL_info.csv")
    rows = [
        (
            f"`{c.name}`",
            f"{c.type}{' or null' if c.nullable else ''}",
            c.unit,
            c.meaning,
            c.privacy,
            f"`{c.dl_info}`" if c.dl_info else "",
        )
        for c in columns(table)
    ]
    return _table(head, rows)


def _privacy() -> str:
    return "\n".join(f"- **{name}**: {meaning}" for name, meaning in schemas.load("dataset")["privacy"].items())
