"""Opening a DICOM file, whatever it holds: parsed or one clear DataError, with what every kind of object says of the patient.

    dataset = open_dicom("1.2.840.dcm")
    time_of(dataset), age_of(dataset)          datetime(2004, 8, 26, 18, 50, 59), 64.4

A deflated file is inflated here up to LARGEST bytes, because pydicom inflates without a limit (1 MB can become 2 GB).
"""

from __future__ import annotations

import io
import zlib
from datetime import datetime
from pathlib import Path
from typing import Any

from regen.errors import DataError

LARGEST = 512 * 2**20
"""Bytes; a larger file, or one that inflates to more, is refused."""
DEFLATED = "1.2.840.10008.1.2.1.99"
ECG_OBJECTS = "1.2.840.10008.5.1.4.1.1.9."
"""SOP classes of waveforms begin like this."""


def open_dicom(path: Path) -> Any:
    """The whole file as a pydicom Dataset, values not decoded yet.

    Raises:
        DataError: no such file, not DICOM (the message says what it is), larger than LARGEST, or damaged.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        if path.stat().st_size > LARGEST:
            raise DataError(f"{path}: expected a file of at most {LARGEST >> 20} MiB, got {path.stat().st_size >> 20} MiB; export single images")
        kind = kind_of(path)
        if kind in {"PNG", "JPEG"}:
            raise DataError(f"{path}: expected a DICOM file, got a {kind} picture; rename it to {path.with_suffix('.' + kind.lower()).name}")
        syntax = _syntax(path) if kind == "DICOM" else ""
        dataset: Any = _inflated(path) if syntax == DEFLATED else pydicom.dcmread(path)
        return dataset
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; check the path") from error
    except InvalidDicomError as error:
        raise DataError(f"{path}: expected a DICOM file, got something else (no DICM mark); export the study as DICOM") from error
    except Exception as error:  # pydicom lets many kinds through on damaged files
        raise DataError(f"{path}: expected a DICOM file, could not parse it ({brief(error)}); export it again") from error


def kind_of(path: Path) -> str:
    """'PNG', 'JPEG', 'DICOM' or '' by the first bytes of a file; '' as well where it cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(132)
    except OSError:
        return ""
    if head[128:] == b"DICM":
        return "DICOM"
    return "PNG" if head.startswith(b"\x89PNG\r\n\x1a\n") else "JPEG" if head.startswith(b"\xff\xd8\xff") else ""


def study_key(path: Path) -> tuple[str, str] | None:
    """(StudyInstanceUID, PatientID) of a file, read without its pixels; None where it names no study.

    Raises:
        DataError: as open_dicom.
    """
    import pydicom

    try:
        if _syntax(path) == DEFLATED:
            dataset = open_dicom(path)
        else:
            dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["StudyInstanceUID", "PatientID"])
        study = str(dataset.get("StudyInstanceUID") or "").strip()
        return (study, str(dataset.get("PatientID") or "").strip()) if study else None
    except DataError:
        raise
    except Exception as error:  # pydicom lets many kinds through on damaged files
        raise DataError(f"{path}: expected a DICOM file, could not parse it ({brief(error)}); export it again") from error


def is_ecg(path: Path) -> bool:
    """The file's first few hundred bytes call it a waveform. False where they cannot be read."""
    from pydicom.filereader import read_file_meta_info

    try:
        return str(read_file_meta_info(path).get("MediaStorageSOPClassUID", "")).startswith(ECG_OBJECTS)
    except Exception:
        return False


def holds_waveform(dataset: Any) -> bool:
    """The object is a waveform, or claims to be an ECG without one. False where that part is damaged."""
    try:
        return "WaveformSequence" in dataset or str(dataset.get("Modality", "")).upper() in {"ECG", "HD"}
    except Exception:  # an unknown value representation, say
        return False


def brief(error: BaseException) -> str:
    """An exception in one line: pydicom quotes whole elements."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 200 else f"{text[:200]} ..."


def time_of(dataset: Any) -> datetime | None:
    """When it was acquired, else when the study began."""
    stamp = str(dataset.get("AcquisitionDateTime") or "") or f"{dataset.get('StudyDate', '')}{dataset.get('StudyTime', '')}"
    if not dataset.get("AcquisitionDateTime") and len(str(dataset.get("StudyDate", ""))) != 8:
        return None
    for form, length in (("%Y%m%d%H%M%S", 14), ("%Y%m%d%H%M", 12), ("%Y%m%d", 8)):
        if len(stamp) < length:
            continue
        try:
            return datetime.strptime(stamp[:length], form)
        except ValueError:
            continue
    return None


def age_of(dataset: Any) -> float | None:
    """Years: the age string (042Y, 006M, 012W, 030D), else from the date of birth to the study."""
    text, per_year = str(dataset.get("PatientAge") or ""), {"Y": 1.0, "M": 12.0, "W": 52.18, "D": 365.25}
    if len(text) == 4 and text[:3].isdecimal() and text[3] in per_year:
        return int(text[:3]) / per_year[text[3]]
    try:
        born, time = datetime.strptime(str(dataset.get("PatientBirthDate") or ""), "%Y%m%d"), time_of(dataset)
    except ValueError:
        return None
    return (time - born).days / 365.25 if time else None


def _syntax(path: Path) -> str:
    from pydicom.filereader import read_file_meta_info

    return str(read_file_meta_info(path).get("TransferSyntaxUID", ""))


def _inflated(path: Path) -> Any:
    from pydicom.filereader import read_dataset, read_file_meta_info

    meta = read_file_meta_info(path)
    start = 132 + 12 + int(meta.FileMetaInformationGroupLength)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    body = inflater.decompress(path.read_bytes()[start:], LARGEST)
    if inflater.unconsumed_tail:
        raise DataError(f"{path}: expected at most {LARGEST >> 20} MiB of data, the deflated part holds more; export the file uncompressed")
    if not inflater.eof:
        raise DataError(f"{path}: the deflated part ends before its end mark; the file was cut: export it again")
    dataset: Any = read_dataset(io.BytesIO(body), is_implicit_VR=False, is_little_endian=True)
    dataset.file_meta = meta
    return dataset
