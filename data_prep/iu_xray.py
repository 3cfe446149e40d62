"""IU X-ray (Open-I; Demner-Fushman et al., JAMIA 2016): the official XML reports, or the tables of the Kaggle copy.

    ecgen-radiology/1.xml, NLMCXR_png/CXR1_1_IM-0001-3001.png                   official, as NLMCXR_reports.tgz and NLMCXR_png.tgz unpack
    indiana_reports.csv, indiana_projections.csv, images/images_normalized/     Kaggle

The subject is the report ('CXR1' in both layouts): the archive names no patients, so one with two reports can fall into two splits. 'XXXX'
is the archive's mark for what was removed, and stays. Observations are read from findings and impression. A report without an image is a
study that is a report alone; an image that is not there makes its study fail.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

from regen.data_prep.chest_labeler import label_report
from regen.data_prep.image_folder import frontal_first
from regen.data_prep.prepare import Entry
from regen.data_prep.sections import SECTIONS, report_of
from regen.data_prep.tables import read_table
from regen.errors import DataError

_REMEDY = "give the folder with ecgen-radiology/ and NLMCXR_png/, or that with indiana_reports.csv and indiana_projections.csv"
_IMAGE_FOLDERS = ("NLMCXR_png", "images/images_normalized", "images_normalized", "images", ".")


def entries(root: str | Path) -> Iterator[Entry]:
    """One Entry a report, in the order of the reports' numbers (XML) or of the table.

    Raises:
        DataError: neither layout, or a table or a column is missing.
    """
    root = Path(root)
    images = _find_images(root)
    for folder in (root / "ecgen-radiology", root / "NLMCXR_reports" / "ecgen-radiology"):
        if folder.is_dir():
            yield from _official(folder, images)
            return
    yield from _kaggle(root, images)


def _find_images(root: Path) -> dict[str, str]:
    """File name -> path, from the first image folder that has any."""
    for name in _IMAGE_FOLDERS:
        folder = root / name
        if folder.is_dir() and (found := {path.name: str(path) for path in folder.glob("*.png")}):
            return found
    return {}


def _official(folder: Path, images: dict[str, str]) -> Iterator[Entry]:
    paths = sorted(folder.glob("*.xml"), key=lambda path: (len(path.stem), path.stem))
    if not paths:
        raise DataError(f"{folder}: expected reports as 1.xml, got none; unpack NLMCXR_reports.tgz")
    for path in paths:
        try:
            tree = _parse(path)
        except DataError as error:
            yield Entry(study_id=f"CXR{path.stem}", subject_id=f"CXR{path.stem}", broken=str(error))
            continue
        number = next((e.get("id") for e in tree.iter("uId") if e.get("id")), None) or f"CXR{path.stem}"
        texts = {(e.get("Label") or "").lower(): "".join(e.itertext()) for e in tree.iter("AbstractText")}
        names = [f"{e.get('id')}.png" for e in tree.iter("parentImage")]
        yield _entry(number, texts, names, [None] * len(names), images)


def _kaggle(root: Path, images: dict[str, str]) -> Iterator[Entry]:
    views: dict[str, list[tuple[str, str]]] = {}
    for _, row in read_table(root / "indiana_projections.csv", {"uid", "filename", "projection"}, _REMEDY):
        views.setdefault(row["uid"], []).append((row["filename"], row["projection"]))
    for _, row in read_table(root / "indiana_reports.csv", {"uid", "indication", "comparison", "findings", "impression"}, _REMEDY):
        pairs = views.get(row["uid"], [])
        yield _entry(f"CXR{row['uid']}", row, [name for name, _ in pairs], [view for _, view in pairs], images)


def _entry(number: str, texts: dict[str, str], names: list[str], views: Sequence[str | None], images: dict[str, str]) -> Entry:
    missing = next((name for name in names if name not in images), None)
    broken = None if missing is None else f"{missing}: expected this image of report {number}, got none; unpack NLMCXR_png.tgz"
    sections = {name: text for name in SECTIONS if (text := " ".join((texts.get(name) or "").split()))}
    report = report_of(sections)
    paths, ordered = frontal_first([images.get(name, name) for name in names], views)
    return Entry(
        study_id=number,
        subject_id=number,
        images=paths,
        views=ordered,
        report=report or None,
        sections=sections or None,
        observations=label_report(report) if report else None,
        language="en" if report else None,
        broken=broken,
    )


class _NoDoctype(ElementTree.TreeBuilder):
    """Entities are declared in a DOCTYPE, which no report has; refused before anything in it is read."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise DataError(f"expected a report without a DOCTYPE, got one that declares {name!r}")


def _parse(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(path, ElementTree.XMLParser(target=_NoDoctype())).getroot()
    except DataError as error:
        raise DataError(f"{path}: {error}; restore the official file") from error
    except (ElementTree.ParseError, OSError, ValueError, LookupError) as error:
        raise DataError(f"{path}: expected an XML report, could not read it ({error}); restore the official file") from error
