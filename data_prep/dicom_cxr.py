"""DICOM chest radiographs in, through pydicom: CR, DX and digitised film, windowed as they hang, never flipped.

    study = read_dicom_cxr("1.2.840.dcm")
    study.cxr[0].pixels, study.cxr[0].view           (1955, 1841) float32 in [0, 1], "PA"
    study.flags                                      ("window:LINEAR", "orientation:L/F")

Anything else (a CT slice, a knee, a photograph of a screen) is refused by name; `force` reads it and says so in a flag.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from regen.data_prep.dicom_file import age_of, brief, open_dicom, time_of
from regen.data_prep.dicom_pixels import PIXELS, stored_image
from regen.data_prep.dicom_window import windowed
from regen.data_prep.recording import sex_of
from regen.data_prep.views import view_of
from regen.errors import DataError, MissingExtraError
from regen.study import Cxr, Study

RADIOGRAPHS = {"CR", "DX", "DR", "RG"}
"""Modalities that are plain radiographs; RG is digitised film."""
_CLASSES = ("1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1.1")
_SECONDARY = "1.2.840.10008.5.1.4.1.1.7"
_CHEST = re.compile(r"chest|th?ora[xk]|thoracic cavity|lung|pulmo|poumon|\bcxr\b|\brx ?t[oó]rax|t[oó]rax", re.IGNORECASE)
_ELSEWHERE = re.compile(
    r"\b(abdom\w*|pelvi\w*|becken|hips?|knees?|knie|legs?|tibia\w*|femur|foot|feet|fuss|ankles?|hands?|hand|wrists?|fingers?|elbows?|arms?|"
    r"forearm|humerus|shoulders?|schulter|clavicles?|skull|sch[aä]del|head|neck|sinus\w*|teeth|dental|c-?spine|l-?spine|t-?spine|"
    r"spine|spinal|lumbar|cervical|extremit\w*|breast|mammo\w*|bone age)\b",
    re.IGNORECASE,
)


def read_dicom_cxr(path: str | Path, force: bool = False, limit: int = PIXELS) -> Study:
    """Read one chest radiograph into a Study with one view.

    force: read what is no chest radiograph too, with a flag 'forced:...'. limit: most pixels, checked before decoding.

    Raises:
        DataError: not DICOM, not a chest radiograph, colour, several frames, too large, no or damaged or constant pixels.
        MissingExtraError: no decoder for its transfer syntax is installed.
    """
    path = Path(path)
    return cxr_of(open_dicom(path), path, force, limit)


def cxr_of(dataset: Any, path: Path, force: bool = False, limit: int = PIXELS) -> Study:
    """The same for a file that is open already."""
    try:
        return _study(dataset, path, force, limit)
    except (DataError, MissingExtraError):
        raise
    except MemoryError as error:
        raise DataError(f"{path}: the image does not fit into memory; the header may be damaged: export it again") from error
    except Exception as error:  # codecs have their own kinds, and pydicom decodes values only when they are asked for
        raise DataError(f"{path}: the image does not decode ({brief(error)}); the file may be damaged: export it again") from error


def _study(dataset: Any, path: Path, force: bool, limit: int) -> Study:
    wrong = wrong_kind(dataset)
    if wrong and not force:
        raise DataError(f"{path}: expected a chest X-ray, got {wrong}; leave it out, or force it where the header is wrong")
    image = stored_image(dataset, path, limit)
    if image.pixels.min() == image.pixels.max():
        raise DataError(f"{path}: expected an image, got the value {image.values[image.pixels.flat[0]]:g} in every pixel; check the export")
    pixels, how = windowed(dataset, image)
    if "window:percentile" in how and not pixels.min() < pixels.max():
        raise DataError(f"{path}: expected an image, got one value in every pixel that is no padding; check the export")
    view, from_text = _view(dataset)
    return Study(
        study_id=str(dataset.get("StudyInstanceUID") or "") or path.stem,
        subject_id=str(dataset.get("PatientID") or "").strip() or None,
        time=time_of(dataset),
        cxr=(Cxr(pixels, view, str(path)),),
        age=age_of(dataset),
        sex=sex_of(str(dataset.get("PatientSex") or "")),
        source=str(path),
        flags=((f"forced:{wrong}",) if wrong else ()) + image.flags + how + from_text + _flags(dataset),
    )


def wrong_kind(dataset: Any) -> str | None:
    """What an object is when it is no chest radiograph ("modality 'CT' (CT Image Storage)"), else None."""
    modality = str(dataset.get("Modality") or "").upper()[:16]
    uid: Any = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID")
    name = f" ({str(getattr(uid, 'name', uid))[:64]})" if uid else ""
    if modality not in RADIOGRAPHS and (modality or uid not in _CLASSES):
        return f"modality {modality or 'unknown'!r}{name}"
    part, described = str(dataset.get("BodyPartExamined") or "")[:32], _described(dataset)
    if part.upper() in {"", "UNKNOWN", "OTHER", "NONE"}:
        part = ""
    if uid and str(uid).startswith(_SECONDARY) and not _CHEST.search(f"{part} {described}"):
        return f"a secondary capture{name}"
    if part and not _CHEST.search(part):
        return f"body part {part!r}"
    found = _ELSEWHERE.search(described)
    return f"a study described as {described[:64]!r}" if found and not _CHEST.search(described) else None


def _described(dataset: Any) -> str:
    """What the study, the series and the region are called, in one line."""
    names = ("StudyDescription", "SeriesDescription", "ProtocolName", "PerformedProcedureStepDescription")
    texts = [str(dataset.get(name) or "") for name in names] + [_meaning(dataset, "AnatomicRegionSequence")]
    return " ".join(" ".join(texts).split())


def _meaning(dataset: Any, name: str) -> str:
    items = dataset.get(name)
    return str(items[0].get("CodeMeaning") or "") if items else ""


def _view(dataset: Any) -> tuple[str | None, tuple[str, ...]]:
    """PA, AP, LATERAL or the archive's own word: by ViewPosition, else the view's code, else the series' name (with a flag)."""
    word = " ".join(str(dataset.get("ViewPosition") or "").split())[:16]
    for text in (word, _meaning(dataset, "ViewCodeSequence")):
        view = view_of(text)
        if view:
            return view, ()
    if word:
        return word.upper(), ()
    texts = [str(dataset.get(name) or "") for name in ("SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription")]
    named = {view for text in texts if (view := view_of(text))}
    return (named.pop(), ("view_from_description",)) if len(named) == 1 else (None, ())


def _flags(dataset: Any) -> tuple[str, ...]:
    """What was seen and left as it is."""

    def word(name: str) -> str:
        value = dataset.get(name)
        many = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else value
        return "/".join(str(one)[:16] for one in many if one not in (None, ""))

    flags = [f"{label}:{word(name)}" for label, name in (("laterality", "ImageLaterality"), ("orientation", "PatientOrientation")) if word(name)]
    if not word("ImageLaterality") and word("Laterality"):
        flags.append(f"laterality:{word('Laterality')}")
    if any((group, 0x3000) in dataset for group in range(0x6000, 0x6020, 2)):
        flags.append("overlay_ignored")
    if word("BurnedInAnnotation").upper() == "YES":
        flags.append("burned_in_annotation")
    if dataset.get("PresentationLUTSequence") or (word("PresentationLUTShape") == "INVERSE" and dataset.PhotometricInterpretation == "MONOCHROME2"):
        flags.append("presentation_lut_ignored")
    if word("PresentationIntentType").upper() == "FOR PROCESSING":
        flags.append("for_processing")
    if word("FieldOfViewHorizontalFlip").upper() == "YES":
        flags.append("horizontal_flip_noted")
    if not _CHEST.search(f"{dataset.get('BodyPartExamined') or ''} {_described(dataset)}"):
        flags.append("body_part_unknown")
    if str(dataset.get("SOPClassUID") or "").startswith(_SECONDARY):
        flags.append("secondary_capture")
    return tuple(flags)
