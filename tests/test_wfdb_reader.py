"""The WFDB reader against wfdb itself, bit for bit, and against every broken file we could think of."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import wfdb
from records import edit, samples, write_wfdb

from regen.data_prep.leads import MILLIVOLTS, lead_of
from regen.data_prep.readers import read_study
from regen.data_prep.wfdb_reader import read_wfdb
from regen.errors import DataError
from regen.study import LEADS, FloatArray


def oracle(header: Path) -> FloatArray:
    """(12, time) float32 millivolts of wfdb.rdrecord, leads put in order one by one; NaN where a lead is not in the file."""
    record = wfdb.rdrecord(str(header.with_suffix("")))
    assert record.p_signal is not None
    out = np.full((12, record.p_signal.shape[0]), np.nan, np.float32)
    for column, (name, unit) in enumerate(zip(record.sig_name, record.units)):
        lead = lead_of(name)
        if lead is not None:
            out[LEADS.index(lead)] = record.p_signal[:, column].astype(np.float32) * np.float32(MILLIVOLTS[unit.lower()])
    return out


def signal_of(header: Path) -> FloatArray:
    ecg = read_wfdb(header).ecg
    assert ecg is not None
    return ecg.signal


def differing(headers: list[Path]) -> list[str]:
    """Records whose samples are not the very bits of wfdb's; a lead that never changes must have become NaN."""
    out = []
    for header in headers:
        expected = oracle(header)
        expected[expected.max(axis=1) == expected.min(axis=1)] = np.nan
        if signal_of(header).tobytes() != expected.tobytes():
            out.append(str(header))
    return out


@pytest.mark.real_data
def test_every_real_record_reads_as_wfdb_reads_it(ptbxl_records: list[Path]) -> None:
    chunks = [ptbxl_records[i::16] for i in range(16)]
    with ProcessPoolExecutor(2) as pool:
        bad = [path for part in pool.map(differing, chunks) for path in part]
    assert not bad, f"{len(bad)} of {len(ptbxl_records)} records differ from wfdb: {bad[:3]}"


GAINS = ["1000(0)/mV", "1000.0(0)/mV", "200", "204.8(-17)/mV", "7247/mV", "1.052e+04(512)/mV", "4.88(3)/uV", "0.001(0)/nV"]


@pytest.mark.parametrize("kind", [16, 212])
@pytest.mark.parametrize("gain", GAINS)
def test_gains_baselines_and_units_give_wfdbs_bits(tmp_path: Path, rng: np.random.Generator, kind: int, gain: str) -> None:
    header = write_wfdb(tmp_path, "r", samples(rng), kind=kind, gains=gain)
    assert signal_of(header).tobytes() == oracle(header).tobytes()


def test_a_negative_gain_is_an_inverted_lead(tmp_path: Path, rng: np.random.Generator) -> None:
    adc = samples(rng)
    inverted = signal_of(write_wfdb(tmp_path, "a", adc, gains="-200(5)/mV"))
    np.testing.assert_array_equal(inverted, -signal_of(write_wfdb(tmp_path, "b", adc, gains="200(5)/mV")))


@pytest.mark.parametrize("kind", [16, 212])
@pytest.mark.parametrize(("channels", "time"), [(1, 1001), (3, 1001), (12, 1000), (5, 1000)])
def test_any_number_of_channels_and_samples(tmp_path: Path, rng: np.random.Generator, kind: int, channels: int, time: int) -> None:
    header = write_wfdb(tmp_path, "r", samples(rng, time, channels), kind=kind, names=LEADS[6:] + LEADS[:6])
    np.testing.assert_array_equal(signal_of(header), oracle(header)[:, :time])


@pytest.mark.parametrize(("kind", "code"), [(16, -32768), (212, -2048)])
def test_the_missing_value_code_becomes_nan_and_nothing_else_does(tmp_path: Path, rng: np.random.Generator, kind: int, code: int) -> None:
    adc = samples(rng)
    adc[100:200, 4] = code
    signal = signal_of(write_wfdb(tmp_path, "r", adc, kind=kind))
    assert np.argwhere(np.isnan(signal)).tolist() == [[4, t] for t in range(100, 200)]
    np.testing.assert_array_equal(signal, oracle(tmp_path / "r.hea"))


def test_extremes_of_twelve_bits_keep_their_sign(tmp_path: Path) -> None:
    adc = np.resize(np.array([[2047], [-2047], [-1], [0], [1]], np.int16), (1500, 1))
    np.testing.assert_array_equal(signal_of(write_wfdb(tmp_path, "r", adc, kind=212, names=["II"]))[1], adc[:, 0] / np.float32(1000))


def test_leads_in_any_order_and_case_land_in_theirs(tmp_path: Path, rng: np.random.Generator) -> None:
    adc = samples(rng)
    order = rng.permutation(12)
    spelled = [f"lead {name}" if i % 2 else name.upper() for i, name in enumerate(LEADS)]
    mixed = write_wfdb(tmp_path, "mixed", adc[:, order], names=[spelled[i] for i in order])
    np.testing.assert_array_equal(signal_of(mixed), signal_of(write_wfdb(tmp_path, "plain", adc)))


def test_limb_leads_that_two_others_determine_are_filled(tmp_path: Path, rng: np.random.Generator) -> None:
    adc = samples(rng, channels=8)
    study = read_wfdb(write_wfdb(tmp_path, "r", adc, names=("I", "II", *LEADS[6:])))
    assert study.ecg is not None
    one, two = study.ecg.signal[:2]
    for row, expected in ((2, two - one), (3, -(one + two) / 2), (4, one - two / 2), (5, two - one / 2)):
        np.testing.assert_allclose(study.ecg.signal[row], expected, atol=1e-6)
    assert study.flags == tuple(f"lead_derived:{name}" for name in ("III", "aVR", "aVL", "aVF"))


def test_a_flat_lead_is_missing_and_nothing_is_derived_from_it(tmp_path: Path, rng: np.random.Generator) -> None:
    adc = samples(rng, channels=8)
    adc[:, 0] = 0
    study = read_wfdb(write_wfdb(tmp_path, "r", adc, names=("I", "II", *LEADS[6:])))
    assert study.ecg is not None
    assert "lead_flat:I" in study.flags
    assert study.ecg.present.tolist() == [lead == "II" or lead.startswith("V") for lead in LEADS]


def test_age_sex_and_time_come_from_the_header(tmp_path: Path, rng: np.random.Generator) -> None:
    header = write_wfdb(tmp_path, "r", samples(rng), comments=["Age: 74", "Sex: Male"], stamp="11:39:16 05/02/2020")
    study = read_wfdb(header)
    assert (study.study_id, study.age, study.sex, study.time) == ("r", 74.0, "male", datetime(2020, 2, 5, 11, 39, 16))
    assert read_wfdb(tmp_path / "r").time == study.time, "the record's name without suffix reads too"


def flip(path: Path) -> None:
    """Change one bit of the first sample."""
    data = path.read_bytes()
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])


Damage = Callable[[Path], object]
BROKEN: dict[str, tuple[Damage, str]] = {
    "short": (lambda h: (h.with_suffix(".dat").write_bytes(h.with_suffix(".dat").read_bytes()[:-7])), r"12 channels x 2000 samples.*47993 bytes"),
    "no samples": (lambda h: h.with_suffix(".dat").write_bytes(b""), r"holds 0 bytes"),
    "no signal file": (lambda h: h.with_suffix(".dat").unlink(), r"signal file 'r.dat'.*found none"),
    "one bit": (lambda h: flip(h.with_suffix(".dat")), r"expected checksum \d+ for channel 'I', got"),
    "swapped counts": (lambda h: edit(h, "500 2000", "2000 500"), r"expected checksum"),
    "swapped, no checksums": (lambda h: h.write_text("r 12 2000 500\n" + "r.dat 16 1000/mV\n" * 12), r"expected 500 samples, the file holds 2000"),
    "too many channels": (lambda h: edit(h, "r 12 ", "r 13 "), r"13 channels announced, 12 described"),
    "zero gain": (lambda h: edit(h, "1000(0)/mV", "0(0)/mV"), r"gain in units per millivolt for lead I, got 0"),
    "infinite gain": (lambda h: edit(h, "1000(0)/mV", "1e999/mV"), r"gain .* got inf"),
    "tiny gain": (lambda h: edit(h, "1000(0)/mV", "1e-300/mV"), r"infinity"),
    "foreign unit": (lambda h: edit(h, "1000(0)/mV", "1000(0)/mmHg"), r"volts for lead I .*'mmHg'"),
    "upwards": (lambda h: edit(h, "r.dat", "../r.dat"), r"same folder, got '\.\./r\.dat'"),
    "absolute": (lambda h: edit(h, "r.dat", "/etc/passwd"), r"same folder, got '/etc/passwd'"),
    "remote": (lambda h: edit(h, "r.dat", "s3://b/r.dat", 99), r"same folder, got 's3://b/r\.dat'"),
    "windows": (lambda h: edit(h, "r.dat", "C:\\r.dat", 99), r"same folder, got"),
    "null byte": (lambda h: edit(h, "r.dat", "r\0.dat", 99), r"same folder, got"),
    "segment upwards": (lambda h: h.write_text("r/1 12 500 2000\n../r 2000\n"), r"same folder, got '\.\./r'"),
    "segments missing": (lambda h: h.write_text("r/3 12 500 2000\na 2000\n"), r"3 segments announced, 1 described"),
    "offset": (lambda h: edit(h, "r.dat 16 ", "r.dat 16+99999999999999999999 ", 99), r"byte offset"),
    "empty header": (lambda h: h.write_text(""), r"WFDB header, got an empty file"),
    "comments only": (lambda h: h.write_text("# Age: 3\n"), r"got an empty file"),
    "no header": (lambda h: h.write_bytes(bytes(range(256))), r"line that does not parse"),
    "slow": (lambda h: edit(h, "12 500 ", "12 50 "), r"from 100 to 1000 Hz, got 50"),
    "fast": (lambda h: edit(h, "12 500 ", "12 5000 "), r"from 100 to 1000 Hz, got 5000"),
    "not a rate": (lambda h: edit(h, "12 500 ", "12 nan "), r"from 100 to 1000 Hz, got nan"),
    "brief": (lambda h: write_wfdb(h.parent, "r", samples(np.random.default_rng(0), 990)), r"at least 2 s, got 1\.98 s"),
    "no ECG": (lambda h: h.write_text(h.read_text().replace(" 0 ", " 0 x")), r"does not parse|ECG leads"),
    "a lead twice": (lambda h: edit(h, "0 V6", "0 V5"), r"each lead once, got V5 as channel 10 and as channel 11"),
    "unknown format": (lambda h: edit(h, "r.dat 16 ", "r.dat 999 ", 99), r"wfdb package could not decode it"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_record_is_one_clear_data_error(tmp_path: Path, rng: np.random.Generator, case: str) -> None:
    header = write_wfdb(tmp_path / "in", "r", samples(rng))
    read_wfdb(header)
    damage, expected = BROKEN[case]
    damage(header)
    with pytest.raises(DataError, match=expected) as caught:
        read_wfdb(header)
    assert str(tmp_path / "in" / "r") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("value", "named"), [(0, "flat line"), (321, "flat line"), (-32768, "only missing samples")])
def test_a_recording_of_nothing_is_refused(tmp_path: Path, value: int, named: str) -> None:
    header = write_wfdb(tmp_path, "r", np.full((2000, 12), value, np.int16))
    with pytest.raises(DataError, match=named):
        read_wfdb(header)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    header = write_wfdb(tmp_path / "in", "r", samples(rng))
    shutil.move(tmp_path / "in" / "r.dat", tmp_path / "secret.dat")
    (tmp_path / "in" / "r.dat").symlink_to(tmp_path / "secret.dat")
    with pytest.raises(DataError, match="same folder"):
        read_wfdb(header)


def test_segments_are_joined_through_wfdb(tmp_path: Path, rng: np.random.Generator) -> None:
    parts = [samples(rng, 1500), samples(rng, 700)]
    for name, part in zip("ab", parts):
        write_wfdb(tmp_path, name, part)
    (tmp_path / "r.hea").write_text("r/2 12 500 2200\na 1500\nb 700\n")
    study = read_wfdb(tmp_path / "r.hea")
    assert study.ecg is not None
    np.testing.assert_array_equal(study.ecg.signal, (np.concatenate(parts) / np.float32(1000)).T)
    assert "read_through_wfdb" in study.flags
    edit(tmp_path / "b.hea", "b.dat", "../b.dat", 12)
    with pytest.raises(DataError, match=r"b\.hea: expected its signal files in the same folder"):
        read_wfdb(tmp_path / "r.hea")


@pytest.mark.parametrize("kind", ["24", "32", "80"])
def test_other_formats_go_through_wfdb_with_their_checksums(tmp_path: Path, rng: np.random.Generator, kind: str) -> None:
    adc = samples(rng, limit=120).astype(np.int64)
    wfdb.wrsamp(
        "r",
        fs=500,
        units=["mV"] * 12,
        sig_name=list(LEADS),
        d_signal=adc,
        fmt=[kind] * 12,
        adc_gain=[100.0] * 12,
        baseline=[3] * 12,
        write_dir=str(tmp_path),
    )
    header = tmp_path / "r.hea"
    study = read_wfdb(header)
    assert study.flags == ("read_through_wfdb",)
    assert signal_of(header).tobytes() == oracle(header).tobytes()
    data = bytearray((tmp_path / "r.dat").read_bytes())
    data[1200] ^= 1
    (tmp_path / "r.dat").write_bytes(bytes(data))
    with pytest.raises(DataError, match="expected checksum"):
        read_wfdb(header)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "leads", "through_wfdb"),
    [(f"cpsc2018_10rec/A{i:04d}.hea", 12, False) for i in range(1, 11)]
    + [("wfdb_sample/a103l.hea", 1, False), ("wfdb_sample/s0010_re.hea", 12, True)],
)
def test_records_of_other_recorders(data_root: Path, name: str, leads: int, through_wfdb: bool) -> None:
    header = data_root / "formats" / name
    study = read_study(header)
    assert study.ecg is not None
    assert study.ecg.present.sum() == leads
    assert ("read_through_wfdb" in study.flags) is through_wfdb
    np.testing.assert_array_equal(study.ecg.signal, oracle(header))


@pytest.mark.real_data
def test_flac_decodes_and_is_refused_only_for_its_lead_names(data_root: Path) -> None:
    with pytest.raises(DataError, match=r"expected ECG leads.*'sig 0, fmt 508'"):
        read_study(data_root / "formats" / "wfdb_sample" / "flacformats.hea")


TOKENS = [*b"0 -1 nan ../x / 1e999 e x4 :1 +7 212 80 508 ~ - . 1/2 \x00 \n".split(b" "), b"", b"\xff\xfe", b"9" * 30, b"+" + b"9" * 30]


@pytest.mark.parametrize("seed", range(4))
def test_random_damage_never_escapes_as_anything_but_a_data_error(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    kind = (16, 212)[seed % 2]
    header = write_wfdb(tmp_path, "r", samples(rng, 1000), kind=kind)
    files = {path: path.read_bytes() for path in (header, tmp_path / "r.dat")}
    refused = 0
    for turn in range(100):
        for path, content in files.items():
            path.write_bytes(content)
        target = header if turn % 5 else tmp_path / "r.dat"
        data = bytearray(files[target])
        if target == header and turn % 2:
            words = bytes(data).split(b" ")
            for _ in range(int(rng.integers(1, 4))):
                words[int(rng.integers(len(words)))] = TOKENS[int(rng.integers(len(TOKENS)))]
            data = bytearray(b" ".join(words))
        elif turn % 3:
            for at in rng.integers(len(data), size=4):
                data[at] = rng.integers(256)
        else:
            del data[int(rng.integers(len(data))) :]
        target.write_bytes(bytes(data))
        message = refusal(header)
        if message is not None:
            refused += 1
            assert str(tmp_path) in message
    assert refused > 50


def refusal(header: Path) -> str | None:
    """What the reader says where it refuses the file; anything but a DataError fails the test."""
    try:
        read_wfdb(header)
    except DataError as error:
        return str(error)
    return None
