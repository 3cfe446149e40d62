"""Which reader opens which file. Adding a format is one reader module and one line in READERS."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from regen.data_prep.dicom_cxr import cxr_of
from regen.data_prep.dicom_ecg import ecg_of
from regen.data_prep.dicom_file import holds_waveform, is_ecg, kind_of, open_dicom
from regen.data_prep.picture import read_picture
from regen.data_prep.recording import age_or_missing
from regen.data_prep.views import check_shape
from regen.data_prep.wfdb_reader import read_wfdb
from regen.errors import DataError
from regen.study import Study

Reader = Callable[[Path, bool], Study]


def read_dicom(path: str | Path, force: bool = False) -> Study:
    """A DICOM file, as an ECG where it holds a waveform, else as a chest X-ray.

    Raises:
        DataError: neither of the two (force: only where it has no image that can be read), or whatever the reader finds wrong.
    """
    path = Path(path)
    dataset = open_dicom(path)
    return ecg_of(dataset, path) if holds_waveform(dataset) else cxr_of(dataset, path, force)


READERS: dict[str, Reader] = {
    ".hea": lambda path, _: read_wfdb(path),
    ".dcm": read_dicom,
    ".png": read_picture,
    ".jpg": read_picture,
    ".jpeg": read_picture,
}


def read_study(path: str | Path, force: bool = False) -> Study:
    """Open one file with the reader of its suffix; a DICOM file without one (or named by its UID) is known by its mark.

    force: read images that do not look like a chest X-ray, with a flag 'forced:...'. An age that nobody has is missing, with a flag.

    Raises:
        DataError: no such file, no reader for it, an image too small or too long, or whatever the reader finds wrong.
        MissingExtraError: a DICOM image whose decoder is not installed.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None and path.with_name(path.name + ".hea").exists():
        reader = READERS[".hea"]
    if reader is None and path.suffix.lower() in {".dat", ".mat"} and path.with_suffix(".hea").exists():
        raise DataError(f"{path}: expected the record's header, got its signal file; give {path.with_suffix('.hea').name}")
    if reader is None and _has_dicom_mark(path):
        reader = read_dicom
    if reader is None:
        state = "a file of another kind" if path.exists() else "no such file"
        raise DataError(f"{path}: expected an ECG or a chest X-ray ({', '.join(sorted(READERS))}), got {state}; convert it to WFDB, DICOM or PNG")
    study = reader(path, force)
    for view in study.cxr:
        check_shape(view, path)
    age, notes = age_or_missing(study.age)
    return replace(study, age=age, flags=study.flags + notes) if notes else study


def is_image(path: Path) -> bool:
    """A file for an image decoder: pictures, and DICOM files that do not say they are waveforms. Reads a few hundred bytes at most."""
    if READERS.get(path.suffix.lower()) is read_picture:
        return True
    return (path.suffix.lower() == ".dcm" or _has_dicom_mark(path)) and not is_ecg(path)


def find_files(paths: Iterable[str | Path]) -> Iterator[Path]:
    """Files as they are; for a folder every file below it that a reader opens, sorted by name.

    Raises:
        DataError: a path that does not exist, or a folder without any such file.
    """
    for given in map(Path, paths):
        if not given.is_dir():
            yield given
            continue
        inside = sorted(p for p in given.rglob("*") if p.is_file() and (p.suffix.lower() in READERS or _has_dicom_mark(p)))
        if not inside:
            raise DataError(f"{given}: expected ECG files below this folder, or chest X-rays ({', '.join(sorted(READERS))}), found none")
        yield from inside


def _has_dicom_mark(path: Path) -> bool:
    """Names like 1.2.840.113619 have a 'suffix' of digits."""
    return not path.suffix.strip(".0123456789") and path.is_file() and kind_of(path) == "DICOM"
