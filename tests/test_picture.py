"""The picture reader: what is grey reads to the last bit, what is no X-ray is named."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import damaged, outcome
from PIL import Image

from regen.data_prep.dicom_window import PERCENTILES
from regen.data_prep.killable import Lost, run_each
from regen.data_prep.picture import read_picture
from regen.data_prep.readers import find_files, is_image, read_study
from regen.errors import DataError
from regen.eval.dicom_samples import phantom, write_dicom


@pytest.fixture(scope="module")
def deep() -> Any:
    return phantom(60, 50, np.random.default_rng(2))


@pytest.fixture(scope="module")
def grey(deep: Any) -> Any:
    return (deep >> 4).astype(np.uint8)


def saved(path: Path, pixels: Any, mode: str | None = None, **options: Any) -> Path:
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P"])
def test_grey_in_any_png_mode_reads_the_same(tmp_path: Path, grey: Any, mode: str) -> None:
    study = read_study(saved(tmp_path / "a.png", grey, mode))
    np.testing.assert_array_equal(study.cxr[0].pixels, (grey / 255).astype(np.float32))
    assert (study.study_id, study.subject_id, study.cxr[0].view, study.flags) == ("a", None, None, ())


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".JPG", ".png"])
def test_jpeg_under_any_name(tmp_path: Path, grey: Any, mode: str, suffix: str) -> None:
    path = saved(tmp_path / f"a{suffix}", grey, mode, quality=95, format="JPEG")
    np.testing.assert_allclose(read_study(path).cxr[0].pixels, np.asarray(Image.open(path).convert("L")) / 255, atol=1e-6)
    np.testing.assert_allclose(read_study(path).cxr[0].pixels, grey / 255, atol=0.08)


def test_16_bits_are_kept(tmp_path: Path, deep: Any) -> None:
    study = read_picture(saved(tmp_path / "a.png", deep))
    low, high = np.percentile(deep, PERCENTILES, method="inverted_cdf")
    np.testing.assert_allclose(study.cxr[0].pixels, ((deep.astype(float) - low) / (high - low)).clip(0, 1), atol=1e-6)
    assert len(np.unique(study.cxr[0].pixels)) > 256
    assert study.flags == ("window:percentile",)


def test_transparent_parts_are_black(tmp_path: Path, grey: Any) -> None:
    alpha = np.full_like(grey, 255)
    alpha[:, :10] = 0
    study = read_picture(saved(tmp_path / "a.png", np.dstack([grey, grey, grey, alpha])))
    np.testing.assert_array_equal(study.cxr[0].pixels[:, :10], 0)
    np.testing.assert_array_equal(study.cxr[0].pixels[:, 10:], (grey[:, 10:] / 255).astype(np.float32))
    assert study.flags == ("transparent_to_black",)


@pytest.mark.parametrize("mode", ["RGB", "P"])
def test_colour_is_refused_or_forced(tmp_path: Path, grey: Any, mode: str) -> None:
    pink = np.dstack([np.full_like(grey, 250), grey, grey])
    path = saved(tmp_path / "a.png", pink, mode)
    with pytest.raises(DataError, match=r"a\.png: expected a chest X-ray in grey, got colour in \d+ %"):
        read_study(path)
    assert read_study(path, force=True).flags[0].startswith("forced:colour")


def test_small_marks_of_colour_are_read(tmp_path: Path, grey: Any) -> None:
    marked = np.dstack([grey] * 3)
    marked[:5, :5] = (255, 0, 0)
    assert read_study(saved(tmp_path / "b.png", marked)).flags == ("colour_marks",)


def test_a_grey_scan_of_an_ecg_is_refused(tmp_path: Path) -> None:
    page = np.full((200, 300), 245, np.uint8)
    page[(100 + 60 * np.sin(np.arange(300) / 5)).astype(int), np.arange(300)] = 20
    path = saved(tmp_path / "a.jpg", page)
    with pytest.raises(DataError, match="got a page that is mostly white"):
        read_study(path)
    assert read_study(path, force=True).flags == ("forced:a page that is mostly white (a scan?)",)


def test_exif_orientation_is_noted_and_not_applied(tmp_path: Path, grey: Any) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    study = read_picture(saved(tmp_path / "a.png", grey, exif=exif))
    assert study.cxr[0].pixels.shape == grey.shape
    assert study.flags == ("exif_orientation_ignored:6",)


def png(width: int, height: int) -> bytes:
    """A PNG of a few bytes that announces any size."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(20000, 5001), (60000, 60000)])
def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "a.png").write_bytes(png(*size))
    with pytest.raises(DataError, match="expected at most 100000000 pixels"):
        read_study(tmp_path / "a.png")


def test_the_limit_can_be_set(tmp_path: Path, grey: Any) -> None:
    path = saved(tmp_path / "a.png", grey)
    with pytest.raises(DataError, match="at most 2999 pixels, got 50 x 60 = 3000"):
        read_picture(path, limit=2999)


def test_names_that_lie(tmp_path: Path, grey: Any, deep: Any) -> None:
    write_dicom(tmp_path / "a.png", deep)
    with pytest.raises(DataError, match=r"a\.png: expected a PNG or JPEG picture, got a DICOM file; rename it to a\.dcm"):
        read_study(tmp_path / "a.png")
    saved(tmp_path / "b.dcm", grey, format="PNG")
    with pytest.raises(DataError, match=r"b\.dcm: expected a DICOM file, got a PNG picture; rename it to b\.png"):
        read_study(tmp_path / "b.dcm")
    (tmp_path / "c.jpg").write_text("hello")
    with pytest.raises(DataError, match=r"c\.jpg: expected a PNG or JPEG picture, got something else"):
        read_study(tmp_path / "c.jpg")
    with pytest.raises(DataError, match="no such file"):
        read_study(tmp_path / "d.png")
    assert [is_image(tmp_path / name) for name in ("a.png", "b.dcm", "c.jpg")] == [True] * 3
    assert [p.name for p in find_files([tmp_path])] == ["a.png", "b.dcm", "c.jpg"]


def test_one_value_and_other_modes(tmp_path: Path, grey: Any) -> None:
    with pytest.raises(DataError, match="the value 9 in every pixel"):
        read_study(saved(tmp_path / "a.png", np.full_like(grey, 9)))
    with pytest.raises(DataError, match="got mode CMYK"):
        read_study(saved(tmp_path / "a.jpg", grey, "CMYK"))


@pytest.mark.parametrize("kind", ["png", "png16", "jpg"])
def test_damage_is_read_or_is_one_clear_error(tmp_path: Path, grey: Any, deep: Any, kind: str) -> None:
    rng = np.random.default_rng(1)
    suffix = kind[:3]
    whole = saved(tmp_path / f"whole.{suffix}", deep if kind == "png16" else grey).read_bytes()
    results = list(run_each(outcome, damaged(tmp_path, suffix, whole, rng, 0, 4), workers=1, seconds=20))
    assert not [r for r in results if isinstance(r, Lost)]
    said = [r for r in results if isinstance(r, str) and r]
    assert len(said) >= 20
    assert all(str(tmp_path) in line and "\n" not in line and len(line) < 800 for line in said)


@pytest.mark.real_data
def test_real_pictures_read(data_root: Path) -> None:
    paths = sorted((data_root / "mhh-cxr").rglob("*.png"))
    assert len(paths) == 173
    read, refused = 0, []
    for path in paths:
        try:
            pixels = read_study(path).cxr[0].pixels
        except DataError as error:
            refused.append(str(error))
        else:
            assert pixels.shape[1] == 640
            read += 1
    assert refused == []


@pytest.mark.real_data
def test_small_real_pictures_read(data_root: Path) -> None:
    paths = sorted((data_root / "nih-cxr-64").rglob("*.png"))[:200]
    assert len(paths) == 200
    assert all(read_study(path).cxr[0].pixels.shape == (64, 64) for path in paths)
