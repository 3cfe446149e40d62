"""Which files are views of one study.

group_files([pa.dcm, other.png, lat.dcm, heart.hea])     [[pa.dcm, lat.dcm], [other.png], [heart.hea]]

DICOM images belong together that name the same study and patient. A picture names none: pictures belong together that lie in one folder which
is named as archives name a study, 's50414267' (MIMIC-CXR) or 'study1' (CheXpert). Everything else is a study of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from regen.data_prep.dicom_file import kind_of, study_key
from regen.data_prep.killable import Lost, run_each
from regen.data_prep.readers import is_image

_STUDY = re.compile(r"(?i)s\d{5,}|study[ _-]?\d+")
_SECONDS = 30.0
"""Most for the header of one file."""


def group_files(paths: Iterable[Path]) -> list[list[Path]]:
    """Those of one study together, in the order of the first file of each. A file that is named twice counts once in a study of several.

    Headers are read in a process that can be killed; a DICOM file whose header does not read stands alone.
    """
    paths = list(paths)
    images = {path for path in paths if is_image(path)}
    headers = [path for path in dict.fromkeys(paths) if path in images and kind_of(path) == "DICOM"]
    named = dict(zip(headers, run_each(study_key, headers, workers=1, seconds=_SECONDS), strict=True)) if len(headers) > 1 else {}
    groups: dict[object, list[Path]] = {}
    for number, path in enumerate(paths):
        key: object = named.get(path, study_folder(path) if path in images else None)
        groups.setdefault(number if key is None or isinstance(key, Lost) else key, []).append(path)
    return [list(dict.fromkeys(group)) for group in groups.values()]


def study_folder(path: Path) -> Path | None:
    """The folder that makes a picture a view of one study, where its name says so."""
    folder = path.absolute().parent
    return folder if kind_of(path) in {"PNG", "JPEG"} and _STUDY.fullmatch(folder.name) else None
