"""Little reports as emitters hand them over: ready for an outbox."""

from __future__ import annotations

from io import BytesIO

from little_objects import sr
from pydicom.filewriter import dcmwrite

from dicom_io.emit import EmittedObject


def result(number: int, *, study: int = 1, patient: str = "P1", issuer: str = "") -> EmittedObject:
    """The report of this number in a study, in a series of its own."""
    dataset = sr(study, number)
    dataset.PatientID = patient
    if issuer:
        dataset.IssuerOfPatientID = issuer
    dataset.SeriesInstanceUID = f"{dataset.SeriesInstanceUID}.{number}"
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return EmittedObject(
        "SR",
        patient,
        str(dataset.StudyInstanceUID),
        str(dataset.SeriesInstanceUID),
        str(dataset.SOPInstanceUID),
        str(dataset.SOPClassUID),
        str(dataset.file_meta.TransferSyntaxUID),
        buffer.getvalue(),
        issuer,
    )
