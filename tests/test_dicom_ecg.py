"""The DICOM reader against pydicom's own decoding, and against broken and wrong files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from regen.data_prep.dicom_ecg import read_dicom_ecg
from regen.data_prep.leads import lead_of
from regen.data_prep.readers import find_files, read_study
from regen.errors import DataError
from regen.study import LEADS, FloatArray

SHIPPED = Path(str(get_testdata_file("waveform_ecg.dcm")))
"""A 12-lead ECG of 10 s that comes with pydicom; its second group is the median beat."""


def oracle(path: Path, group: int = 0) -> FloatArray:
    """(12, time) millivolts of pydicom's waveform_array, channel by channel; the shipped file is in microvolts."""
    dataset: Any = pydicom.dcmread(path)
    out = np.full((12, int(dataset.WaveformSequence[group].NumberOfWaveformSamples)), np.nan)
    for column, channel in enumerate(dataset.WaveformSequence[group].ChannelDefinitionSequence):
        lead = lead_of(channel.ChannelSourceSequence[0].CodeMeaning)
        assert lead is not None
        factor = {"uV": 1e-3, "mV": 1.0}[channel.ChannelSensitivityUnitsSequence[0].CodeValue]
        out[LEADS.index(lead)] = dataset.waveform_array(group)[:, column] * factor
    return out.astype(np.float32)


def test_the_shipped_file_reads_as_pydicom_decodes_it() -> None:
    study = read_dicom_ecg(SHIPPED)
    assert study.ecg is not None
    assert (study.ecg.fs, study.ecg.signal.shape) == (1000.0, (12, 10000)), "the rhythm, not the median beat"
    np.testing.assert_allclose(study.ecg.signal, oracle(SHIPPED), atol=1e-6)
    assert 0.3 < np.abs(study.ecg.signal).max() < 10, "millivolts"
    assert study.time is not None
    assert study.flags == ()


@pytest.mark.real_data
def test_a_second_recorder_reads_too(data_root: Path) -> None:
    path = data_root / "dicom" / "anonymous_ecg.dcm"
    study = read_study(path)
    assert study.ecg is not None
    np.testing.assert_allclose(study.ecg.signal, oracle(path), atol=1e-6)
    assert (study.subject_id, study.age, study.sex) == ("642341", 42.0, "female")


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "modality"), [("RG1_J2KI.dcm", "CR"), ("RG3_J2KI.dcm", "CR"), ("OBXXXX1A.dcm", "US")])
def test_an_image_is_no_ecg(data_root: Path, name: str, modality: str) -> None:
    with pytest.raises(DataError, match=f"{name}: expected an ECG waveform, got modality '{modality}'"):
        read_dicom_ecg(data_root / "dicom" / name)


def changed(path: Path, change: Callable[[Any], object]) -> Path:
    """The shipped file with something done to it."""
    dataset: Any = pydicom.dcmread(SHIPPED)
    change(dataset)
    dataset.save_as(path)
    return path


def group_of(dataset: Any) -> Any:
    return dataset.WaveformSequence[0]


def channels_of(dataset: Any) -> Any:
    return group_of(dataset).ChannelDefinitionSequence


def rename(dataset: Any, row: int, name: str) -> None:
    channels_of(dataset)[row].ChannelSourceSequence[0].CodeMeaning = name


def in_unit(dataset: Any, unit: str) -> None:
    for channel in channels_of(dataset):
        channel.ChannelSensitivityUnitsSequence[0].CodeValue = unit


@pytest.mark.parametrize(("unit", "factor"), [("uV", 1.0), ("mV", 1e3)])
def test_units_are_converted_to_millivolts(tmp_path: Path, unit: str, factor: float) -> None:
    path = changed(tmp_path / "a.dcm", lambda d: in_unit(d, unit))
    got, shipped = read_dicom_ecg(path).ecg, read_dicom_ecg(SHIPPED).ecg
    assert got is not None
    assert shipped is not None
    np.testing.assert_allclose(got.signal, shipped.signal * factor, rtol=1e-5)


def test_padding_becomes_missing(tmp_path: Path) -> None:
    def pad(dataset: Any) -> None:
        group = group_of(dataset)
        raw = np.frombuffer(group.WaveformData, "<i2").reshape(-1, 12).copy()
        raw[500:800, 6] = -32768
        group.WaveformData = raw.tobytes()
        group.add_new(0x5400100A, "OW", np.int16(-32768).tobytes())

    ecg = read_dicom_ecg(changed(tmp_path / "a.dcm", pad)).ecg
    assert ecg is not None
    assert np.argwhere(np.isnan(ecg.signal)).tolist() == [[6, t] for t in range(500, 800)]


def test_age_sex_subject_and_time_are_read(tmp_path: Path) -> None:
    def patient(dataset: Any) -> None:
        dataset.PatientID, dataset.PatientAge, dataset.PatientSex, dataset.AcquisitionDateTime = "p7", "006M", "F", "20200205113916.5"

    study = read_dicom_ecg(changed(tmp_path / "a.dcm", patient))
    assert (study.subject_id, study.age, study.sex) == ("p7", 0.5, "female")
    assert study.time is not None
    assert study.time.isoformat() == "2020-02-05T11:39:16"


BROKEN: dict[str, tuple[Callable[[Any], object], str]] = {
    "no waveform": (lambda d: delattr(d, "WaveformSequence"), "expected an ECG waveform"),
    "no ECG lead": (lambda d: [rename(d, row, f"PLETH {row}") for row in range(12)] + [d.WaveformSequence.pop()], "without one"),
    "a lead twice": (lambda d: rename(d, 1, "Lead I"), "each lead once, got I as channel 0 and as channel 1"),
    "cut waveform": (lambda d: setattr(group_of(d), "WaveformData", group_of(d).WaveformData[:-1000]), "does not decode"),
    "no samples": (lambda d: delattr(group_of(d), "WaveformData"), "does not decode"),
    "no sensitivity": (lambda d: delattr(channels_of(d)[3], "ChannelSensitivity"), "channel sensitivity for lead"),
    "zero sensitivity": (lambda d: setattr(channels_of(d)[3], "ChannelSensitivity", 0), "channel sensitivity for lead"),
    "foreign unit": (lambda d: in_unit(d, "mmHg"), "expected volts for lead .*'mmHg'"),
    "slow": (lambda d: setattr(group_of(d), "SamplingFrequency", 50), "from 100 to 1000 Hz, got 50"),
    "no rate": (lambda d: setattr(group_of(d), "SamplingFrequency", 0), "does not decode"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_object_is_one_clear_data_error(tmp_path: Path, case: str) -> None:
    change, expected = BROKEN[case]
    path = changed(tmp_path / "broken.dcm", change)
    with pytest.raises(DataError, match=expected) as caught:
        read_dicom_ecg(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "expected"), [(b"", "no DICM mark"), (b"hello" * 100, "no DICM mark"), (b"\0" * 128 + b"DICM" + b"\xff" * 40, "DICOM|waveform")]
)
def test_what_is_no_dicom_is_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "a.dcm").write_bytes(content)
    with pytest.raises(DataError, match=expected):
        read_dicom_ecg(tmp_path / "a.dcm")
    with pytest.raises(DataError, match="no such file"):
        read_dicom_ecg(tmp_path / "b.dcm")


@pytest.mark.parametrize("share", [0.001, 0.3, 0.9, 0.999])
def test_a_cut_file_is_refused(tmp_path: Path, share: float) -> None:
    data = SHIPPED.read_bytes()
    group = data.rindex(b"\x00\x54\x10\x10")  # the last element but one holds the samples
    (tmp_path / "a.dcm").write_bytes(data[: int(group * share)])
    with pytest.raises(DataError, match=r"a\.dcm"):
        read_dicom_ecg(tmp_path / "a.dcm")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.filterwarnings("ignore")
def test_random_damage_never_escapes_as_anything_but_a_data_error(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    whole = SHIPPED.read_bytes()
    path = tmp_path / "a.dcm"
    messages: list[str] = []
    for turn in range(60):
        data = bytearray(whole)
        for at in rng.integers(4 if turn % 2 else 132, 4000, size=int(rng.integers(1, 12))):
            data[at] = rng.integers(256)
        if turn % 4 == 0:
            at = int(rng.integers(132, 6000))
            data[at:at] = rng.bytes(int(rng.integers(1, 20)))
        path.write_bytes(bytes(data))
        try:
            read_dicom_ecg(path)
        except DataError as error:
            messages.append(str(error))
    assert len(messages) > 10
    assert all(str(path) in message and "\n" not in message and len(message) < 800 for message in messages)


def test_files_named_by_their_uid_are_found_by_their_mark(tmp_path: Path) -> None:
    for name in ("1.2.840.10008.5", "IM000001", "a.dcm"):
        shutil.copy(SHIPPED, tmp_path / name)
    (tmp_path / "README").write_text("no ECG")
    assert [p.name for p in find_files([tmp_path])] == ["1.2.840.10008.5", "IM000001", "a.dcm"]
    assert read_study(tmp_path / "1.2.840.10008.5").ecg is not None
