"""Names of the dataset folder: where each file lies."""

from __future__ import annotations

LESIONS = "lesions.parquet"
SLICES = "slices.parquet"
BOOKMARKS = "bookmarks.parquet"
SPLITS = "splits.parquet"
DL_INFO = "DL_info.csv"
CARD = "README.md"
REPORT = "report.html"
CONTACT_SHEET = "contact_sheet.png"
CROISSANT = "croissant.json"
MANIFEST = "manifest.json"
IMAGES = "Images_png"


def image_path(name: str) -> str:
    """Path of an image below the dataset folder, from its path below `Images_png`."""
    return f"{IMAGES}/{name}"


def dl_info_name(name: str) -> str:
    """File_name of DL_info.csv: the last slash of the path below `Images_png` becomes an underscore."""
    return name.replace("/", "_")
