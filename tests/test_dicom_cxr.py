"""The chest X-ray reader against pydicom's own windowing, in every transfer syntax, and against files of other kinds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pictures import COLUMNS, ROWS, grey
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

from regen.batch import FileStudies
from regen.data_prep.dicom_cxr import read_dicom_cxr
from regen.data_prep.readers import find_files, is_image, read_study
from regen.errors import DataError, MissingExtraError
from regen.eval.bench_cxr import bench_decode, lines
from regen.eval.dicom_samples import BITS, LOSSY, SYNTAXES, encodable, write_dicom


def oracle(path: Path) -> Any:
    """pydicom's modality and VOI transform, scaled to [0, 1] by the range that it maps to."""
    dataset: Any = pydicom.dcmread(path)
    out = np.asarray(apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset), float)
    bits, signed = dataset.BitsStored, dataset.PixelRepresentation
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    low, high = low * slope + intercept, high * slope + intercept
    if dataset.get("VOILUTSequence"):
        low, high = 0, 2 ** dataset.VOILUTSequence[0].LUTDescriptor[2] - 1
    out = (out - low) / (high - low)
    return 1 - out if dataset.PhotometricInterpretation == "MONOCHROME1" else out


# --- transfer syntaxes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_transfer_syntax_reads(tmp_path: Path, pixels: Any, syntax: str) -> None:
    if syntax not in encodable():
        pytest.skip(f"{syntax} cannot be encoded here: install imagecodecs")
    path = write_dicom(tmp_path / "a.dcm", pixels, syntax)
    expected = ((pixels - 2047.5) / 4095 + 0.5).clip(0, 1)
    np.testing.assert_allclose(grey(path), expected, atol=0.02 if syntax in LOSSY else 1e-6)
    assert read_dicom_cxr(path).flags == ("window:LINEAR",)


@pytest.mark.parametrize("syntax", ["rle", "jpeg_baseline", "jpeg_ls", "jpeg_2000_lossless", "big_endian"])
def test_without_imagecodecs_pydicoms_plugins_give_the_same(tmp_path: Path, pixels: Any, syntax: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if syntax not in encodable():
        pytest.skip(f"{syntax} cannot be encoded here: install imagecodecs")
    path = write_dicom(tmp_path / "a.dcm", pixels, syntax)
    fast = grey(path)
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    np.testing.assert_allclose(grey(path), fast, atol=0.005 if syntax in LOSSY else 0)


def test_an_absent_codec_names_the_pip_line(tmp_path: Path, pixels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if "jpeg_lossless" not in encodable():
        pytest.skip("lossless JPEG cannot be encoded here: install imagecodecs")
    path = write_dicom(tmp_path / "a.dcm", pixels, "jpeg_lossless")
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    from pydicom.pixels.decoders import JPEGLosslessDecoder

    if JPEGLosslessDecoder.is_available:
        pytest.skip("another decoder of lossless JPEG is installed")
    with pytest.raises(MissingExtraError, match=r"a\.dcm: no decoder for JPEG Lossless.*pip install 'regen-ecg\[dicom\]'"):
        read_study(path)


@pytest.mark.parametrize("syntax", ["explicit", "big_endian"])
def test_8_bit_and_odd_sizes(tmp_path: Path, rng: np.random.Generator, syntax: str) -> None:
    small = rng.integers(0, 256, (17, 19), np.uint8)
    path = write_dicom(tmp_path / "a.dcm", small, "explicit")
    np.testing.assert_allclose(grey(path), (small - 127.5) / 255 + 0.5, atol=1e-6)


# --- windowing --------------------------------------------------------------------------------------------------------------------

WINDOWS: dict[str, dict[str, Any]] = {
    "linear": {"WindowCenter": 1500, "WindowWidth": 900},
    "narrowest": {"WindowCenter": 1500, "WindowWidth": 1},
    "exact": {"WindowCenter": 1500, "WindowWidth": 900, "VOILUTFunction": "LINEAR_EXACT"},
    "sigmoid": {"WindowCenter": 1500, "WindowWidth": 900, "VOILUTFunction": "SIGMOID"},
    "rescaled": {"RescaleSlope": 0.5, "RescaleIntercept": -100, "WindowCenter": 650, "WindowWidth": 400},
    "first of two": {"WindowCenter": [1500, 3000], "WindowWidth": [900, 50]},
    "inverted": {"WindowCenter": 1500, "WindowWidth": 900, "PhotometricInterpretation": "MONOCHROME1"},
}


@pytest.mark.parametrize("case", WINDOWS)
@pytest.mark.parametrize("signed", [False, True])
def test_windows_are_pydicoms(tmp_path: Path, pixels: Any, case: str, signed: bool) -> None:
    tags = dict(WINDOWS[case])
    if signed:
        pixels = (pixels.astype(np.int16) - 2048).astype(np.int16)
        shift = 2048 * tags.get("RescaleSlope", 1)
        tags["WindowCenter"] = [c - shift for c in tags["WindowCenter"]] if case == "first of two" else tags["WindowCenter"] - shift
    path = write_dicom(tmp_path / "a.dcm", pixels, **tags)
    np.testing.assert_allclose(grey(path), oracle(path), atol=1e-6)
    assert (grey(path) > 0).mean() > 0.1


def lut(first: int, entries: list[int], bits: int) -> Any:
    item = pydicom.Dataset()
    item.add_new((0x0028, 0x3002), "US", [len(entries), first, bits])
    item.add_new((0x0028, 0x3006), "US", entries)
    return pydicom.Sequence([item])


def test_voi_and_modality_tables(tmp_path: Path, pixels: Any) -> None:
    curve = [int(1023 * (i / 2000) ** 2) for i in range(2001)]
    path = write_dicom(tmp_path / "voi.dcm", pixels, VOILUTSequence=lut(500, curve, 10))
    np.testing.assert_allclose(grey(path), oracle(path), atol=1e-6)
    assert read_dicom_cxr(path).flags == ("window:LUT",), "the table goes before the window"
    path = write_dicom(
        tmp_path / "mod.dcm", pixels, ModalityLUTSequence=lut(0, [4095 - i for i in range(4096)], 12), WindowCenter=1000, WindowWidth=500
    )
    np.testing.assert_allclose(grey(path), (((4095 - pixels.astype(float)) - 999.5) / 499 + 0.5).clip(0, 1), atol=1e-6)


def test_percentiles_where_no_window_is_given_or_it_is_of_no_use(tmp_path: Path, pixels: Any) -> None:
    low, high = np.percentile(pixels, (0.5, 99.5), method="inverted_cdf")
    expected = ((pixels.astype(float) - low) / (high - low)).clip(0, 1)
    for name, tags, flags in (
        ("none", {"WindowCenter": None, "WindowWidth": None}, ("window:percentile",)),
        ("empty", {"WindowCenter": "", "WindowWidth": ""}, ("window:percentile",)),
        ("narrow", {"WindowWidth": 0}, ("window_unusable", "window:percentile")),
        ("elsewhere", {"WindowCenter": 60000, "WindowWidth": 10}, ("window_unusable", "window:percentile")),
    ):
        path = write_dicom(tmp_path / f"{name}.dcm", pixels, **tags)
        np.testing.assert_allclose(grey(path), expected, atol=1e-6)
        assert read_dicom_cxr(path).flags == flags


@pytest.mark.parametrize("inverted", [False, True])
def test_padding_is_black_and_takes_no_part_in_the_percentiles(tmp_path: Path, pixels: Any, inverted: bool) -> None:
    pixels = pixels.clip(100, 4000)
    tags: dict[str, Any] = {"WindowCenter": None, "WindowWidth": None, "PhotometricInterpretation": "MONOCHROME1" if inverted else "MONOCHROME2"}
    plain = grey(write_dicom(tmp_path / "plain.dcm", pixels[:, 20:], **tags))
    padded = pixels.copy()
    padded[:, :10], padded[:, 10:20] = 4090, 4095
    path = write_dicom(tmp_path / "a.dcm", padded, PixelPaddingValue=4095, PixelPaddingRangeLimit=4090, **tags)
    np.testing.assert_array_equal(grey(path)[:, :20], 0)
    np.testing.assert_allclose(grey(path)[:, 20:], plain, atol=1e-6)


def test_overlays_in_the_upper_bits_are_masked(tmp_path: Path, pixels: Any) -> None:
    drawn = pixels | np.uint16(0x8000) * (np.arange(COLUMNS) % 3 == 0)
    path = write_dicom(tmp_path / "a.dcm", drawn)
    dataset: Any = pydicom.dcmread(path)
    dataset.add_new((0x6000, 0x0102), "US", 15)
    dataset.add_new((0x6002, 0x3000), "OW", b"\1\0")
    dataset.save_as(path)
    np.testing.assert_allclose(grey(path), grey(write_dicom(tmp_path / "b.dcm", pixels)), atol=1e-6)
    assert "overlay_ignored" in read_dicom_cxr(path).flags


# --- what the header says ---------------------------------------------------------------------------------------------------------


def test_patient_study_and_flags(tmp_path: Path, pixels: Any) -> None:
    path = write_dicom(
        tmp_path / "a.dcm", pixels, PatientID="p7", PatientSex="F", PatientAge="042Y", StudyDate="20200205", StudyTime="113916.5",
        StudyInstanceUID="1.2.3",
        PatientOrientation=["L", "F"], Laterality="R", BurnedInAnnotation="YES", PresentationIntentType="FOR PROCESSING",
    )  # fmt: skip
    study = read_study(path)
    assert (study.study_id, study.subject_id, study.sex, study.age) == ("1.2.3", "p7", "female", 42.0)
    assert study.time is not None
    assert study.time.isoformat() == "2020-02-05T11:39:16"
    assert study.flags == ("window:LINEAR", "orientation:L/F", "laterality:R", "burned_in_annotation", "for_processing")
    assert study.cxr[0].source == str(path)
    born = read_study(write_dicom(tmp_path / "b.dcm", pixels, PatientBirthDate="19800205", StudyDate="20200205"))
    assert born.age == pytest.approx(40, abs=0.01)


def code(meaning: str) -> Any:
    item = pydicom.Dataset()
    item.CodeMeaning = meaning
    return pydicom.Sequence([item])


@pytest.mark.parametrize(
    ("tags", "view"),
    [
        ({"ViewPosition": "PA"}, "PA"), ({"ViewPosition": "ap"}, "AP"), ({"ViewPosition": "LL"}, "LATERAL"), ({"ViewPosition": "LATERAL"}, "LATERAL"),
        ({"ViewPosition": "LLD"}, "LLD"), ({"ViewPosition": None}, None), ({"ViewPosition": "", "ViewCodeSequence": code("postero-anterior")}, "PA"),
        ({"ViewPosition": None, "ViewCodeSequence": code("left lateral")}, "LATERAL"),
        ({"ViewPosition": None, "SeriesDescription": "CHEST AP PORT"}, "AP"),
        ({"ViewPosition": None, "SeriesDescription": "CHEST PA + LAT"}, None),
    ],
)  # fmt: skip
def test_views(tmp_path: Path, pixels: Any, tags: dict[str, Any], view: str | None) -> None:
    study = read_dicom_cxr(write_dicom(tmp_path / "a.dcm", pixels, **tags))
    assert study.cxr[0].view == view
    assert ("view_from_description" in study.flags) == ("SeriesDescription" in tags and view is not None)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "CT": ({"Modality": "CT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, r"modality 'CT' \(CT Image Storage\)"),
    "MR": ({"Modality": "MR"}, "modality 'MR'"),
    "mammogram": ({"Modality": "MG"}, "modality 'MG'"),
    "unnamed": ({"Modality": None, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}, "modality 'unknown' .MR Image"),
    "knee": ({"BodyPartExamined": "KNEE"}, "body part 'KNEE'"),
    "knee by name": ({"BodyPartExamined": None, "StudyDescription": "Knie links ap"}, "a study described as 'Knie links ap'"),
    "abdomen under a chest preset": ({"StudyDescription": "ABDOMEN 1 VIEW"}, "a study described as 'ABDOMEN"),
    "photograph": ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "BodyPartExamined": None}, "a secondary capture"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_chest_x_ray_is_named_or_forced(tmp_path: Path, pixels: Any, case: str) -> None:
    tags, named = WRONG[case]
    path = write_dicom(tmp_path / "a.dcm", pixels, **tags)
    with pytest.raises(DataError, match=rf"a\.dcm: expected a chest X-ray, got {named}"):
        read_study(path)
    forced = read_study(path, force=True)
    assert forced.flags[0].startswith("forced:")
    assert forced.cxr[0].pixels.shape == (ROWS, COLUMNS)


@pytest.mark.parametrize(
    ("tags", "flag"),
    [
        ({"BodyPartExamined": None}, "body_part_unknown"), ({"BodyPartExamined": None, "StudyDescription": "Röntgen Thorax pa"}, None),
        ({"BodyPartExamined": "PORT CHEST", "StudyDescription": "chest and abdomen"}, None), ({"Modality": None}, None), ({"Modality": "DX"}, None),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "secondary_capture"),
    ],
)  # fmt: skip
def test_what_may_be_a_chest_x_ray_is_read(tmp_path: Path, pixels: Any, tags: dict[str, Any], flag: str | None) -> None:
    study = read_study(write_dicom(tmp_path / "a.dcm", pixels, **tags))
    assert study.flags == (("window:LINEAR", flag) if flag else ("window:LINEAR",))


# --- files together ---------------------------------------------------------------------------------------------------------------


def test_files_of_all_kinds_in_one_folder(tmp_path: Path, pixels: Any) -> None:
    (tmp_path / "b.dcm").write_bytes(Path(str(get_testdata_file("waveform_ecg.dcm"))).read_bytes())
    write_dicom(tmp_path / "a.dcm", pixels, StudyInstanceUID="1.2.3")
    write_dicom(tmp_path / "1.2.840.77", pixels, StudyInstanceUID="1.2.4")
    write_dicom(tmp_path / "knee.dcm", pixels, BodyPartExamined="KNEE")
    names = ["1.2.840.77", "a.dcm", "b.dcm", "knee.dcm"]
    assert [p.name for p in find_files([tmp_path])] == names
    assert [is_image(tmp_path / name) for name in names] == [True, True, False, True]
    found = FileStudies.of([tmp_path], pixels=64)
    studies = list(found)
    assert [s.study_id for s in studies] == ["1.2.4", "1.2.3", "b"]
    assert [s.ecg is not None for s in studies] == [False, False, True]
    assert studies[0].cxr[0].pixels.shape == (64, 64)
    assert [(f.study_id, "body part 'KNEE'" in f.reason) for f in found.failures] == [("knee", True)]
    assert len(list(FileStudies.of([tmp_path], force=True))) == 4


# --- real files -------------------------------------------------------------------------------------------------------------------


@pytest.mark.real_data
def test_a_real_chest_x_ray(data_root: Path) -> None:
    study = read_study(data_root / "dicom" / "RG1_J2KI.dcm")
    assert (study.subject_id, study.sex, study.cxr[0].view) == ("9RG1", "female", "PA")
    assert study.age == pytest.approx(64.5, abs=0.1)
    assert study.cxr[0].pixels.shape == (1955, 1841)
    assert study.flags == ("window:LINEAR", "orientation:L/F")
    np.testing.assert_allclose(study.cxr[0].pixels, oracle(data_root / "dicom" / "RG1_J2KI.dcm"), atol=2e-3)


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "what"), [("RG3_J2KI.dcm", "body part 'EXTREMITY'"), ("OBXXXX1A.dcm", "modality 'US'")])
def test_real_files_of_another_kind(data_root: Path, name: str, what: str) -> None:
    with pytest.raises(DataError, match=f"{name}: expected a chest X-ray, got {what}"):
        read_study(data_root / "dicom" / name)


@pytest.mark.parametrize("name", ["MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_jpeg_ls_lossless.dcm", "CT_small.dcm"])
def test_shipped_images_are_windowed_as_pydicom_does(name: str) -> None:
    path = Path(str(get_testdata_file(name)))
    if "jpeg_ls" in name and "jpeg_ls" not in encodable():
        pytest.skip("no JPEG-LS decoder: install imagecodecs")
    got, dataset = read_dicom_cxr(path, force=True).cxr[0].pixels, pydicom.dcmread(path)
    if "WindowCenter" in dataset:
        np.testing.assert_allclose(got, oracle(path), atol=1e-5)
    stored = dataset.pixel_array.astype(float)
    order = np.argsort(stored, axis=None)
    assert (np.diff(got.ravel()[order]) >= 0).all(), "brighter pixels stay brighter"
    assert BITS == 12


def test_the_benchmark_compares_what_both_sides_read() -> None:
    names = [name for name in ("explicit", "rle", "jpeg_lossless") if name in encodable()]
    result = bench_decode((60, 50), repeats=2, syntaxes=names, size=24, workers=1, memory_at=(2, 4))
    assert list(result["decode"]) == names
    for name in names[:2]:
        assert result["decode"][name]["ratio"]["median"] > 0
        assert result["decode"][name]["difference_max"] < 1e-5
    assert result["ingest"]["peak_mib"].keys() == {"2", "4"}
    assert len(list(lines(result))) == 4 + len(names)


@pytest.mark.parametrize("predictor", range(1, 8))
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_lossless_jpeg_of_every_predictor_and_depth(tmp_path: Path, rng: np.random.Generator, predictor: int, bits: int) -> None:
    codecs = pytest.importorskip("imagecodecs", reason="lossless JPEG cannot be encoded without imagecodecs")
    pixels = rng.integers(0, 2**bits, (40, 31)).astype(np.uint8 if bits == 8 else np.uint16)
    path = write_dicom(tmp_path / "a.dcm", pixels, WindowCenter=2 ** (bits - 1), WindowWidth=2**bits, BitsStored=bits, HighBit=bits - 1)
    plain = grey(path)
    dataset: Any = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = SYNTAXES["jpeg_lossless"]
    dataset.PixelData = encapsulate([codecs.jpeg8_encode(pixels, lossless=True, predictor=predictor, bitspersample=bits)])
    dataset["PixelData"].VR = "OB"
    dataset.save_as(path)
    np.testing.assert_array_equal(grey(path), plain)
