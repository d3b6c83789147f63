"""DICOM in and out: archives, received objects, dialects of bookmarks, planes and pixels."""
