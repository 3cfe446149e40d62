"""Which reader opens which file. Adding a format is one reader module and one line in READERS."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from regen.data_prep.dicom_ecg import read_dicom_ecg
from regen.data_prep.wfdb_reader import read_wfdb
from regen.errors import DataError
from regen.study import Study

Reader = Callable[[Path], Study]
READERS: dict[str, Reader] = {".hea": read_wfdb, ".dcm": read_dicom_ecg}


def read_study(path: str | Path) -> Study:
    """Open one file with the reader of its suffix; a DICOM file without one (or named by its UID) is known by its mark.

    Raises:
        DataError: no such file, no reader for it, or whatever the reader finds wrong.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None and path.with_name(path.name + ".hea").exists():
        reader = read_wfdb
    if reader is None and path.suffix.lower() in {".dat", ".mat"} and path.with_suffix(".hea").exists():
        raise DataError(f"{path}: expected the record's header, got its signal file; give {path.with_suffix('.hea').name}")
    if reader is None and _has_dicom_mark(path):
        reader = read_dicom_ecg
    if reader is None:
        state = "a file of another kind" if path.exists() else "no such file"
        raise DataError(f"{path}: expected an ECG ({', '.join(sorted(READERS))}), got {state}; convert it to WFDB or DICOM")
    return reader(path)


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
            raise DataError(f"{given}: expected ECG files below this folder ({', '.join(sorted(READERS))}), found none")
        yield from inside


def _has_dicom_mark(path: Path) -> bool:
    """Names like 1.2.840.113619 have a 'suffix' of digits."""
    if path.suffix.strip(".0123456789") or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False
