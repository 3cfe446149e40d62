"""DICOM ECG waveforms in, through pydicom. Of several multiplex groups the longest with ECG leads is the recording; a median
beat stored beside the rhythm (as most carts do) is left alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from regen.data_prep.dicom_file import age_of, brief, open_dicom, time_of
from regen.data_prep.leads import MILLIVOLTS, lead_of
from regen.data_prep.recording import sex_of, study_of
from regen.errors import DataError
from regen.study import FloatArray, Study


def read_dicom_ecg(path: str | Path) -> Study:
    """Read one DICOM ECG object (12-lead, general or ambulatory) into a Study, millivolts in the order of LEADS.

    Raises:
        DataError: not DICOM, no waveform (an image, say), a truncated waveform, unknown units, a rate outside 100 to 1000 Hz.
    """
    path = Path(path)
    return ecg_of(open_dicom(path), path)


def ecg_of(dataset: Any, path: Path) -> Study:
    """The same for a file that is open already."""
    try:
        return _study(dataset, path)
    except DataError:
        raise
    except Exception as error:  # pydicom decodes values only when they are asked for
        raise DataError(f"{path}: the waveform does not decode ({brief(error)}); the file may be cut: export it again") from error


def _study(dataset: Any, path: Path) -> Study:
    if not dataset.get("WaveformSequence"):
        raise DataError(
            f"{path}: expected an ECG waveform, got modality {str(dataset.get('Modality', 'unknown'))[:16]!r} without one; "
            "give the 12-lead ECG object of the study"
        )
    index, names = _recording(dataset, path)
    return study_of(
        _millivolts(dataset, index, path),
        names,
        float(dataset.WaveformSequence[index].SamplingFrequency),
        path,
        study_id=path.stem,
        subject_id=str(dataset.get("PatientID") or "").strip() or None,
        time=time_of(dataset),
        age=age_of(dataset),
        sex=sex_of(str(dataset.get("PatientSex") or "")),
    )


def _recording(dataset: Any, path: Path) -> tuple[int, list[str]]:
    """Index and channel names of the group with ECG leads that lasts longest."""
    found: list[tuple[float, int, list[str]]] = []
    for index, group in enumerate(dataset.WaveformSequence):
        names = [_channel_name(channel) for channel in group.ChannelDefinitionSequence]
        if any(lead_of(name) for name in names):
            found.append((int(group.NumberOfWaveformSamples) / float(group.SamplingFrequency), -index, names))
    if not found:
        raise DataError(f"{path}: expected ECG leads, got {len(dataset.WaveformSequence)} waveform groups without one; give an ECG object")
    _, index, names = max(found, key=lambda item: item[:2])
    return -index, names


def _channel_name(channel: Any) -> str:
    sources = channel.get("ChannelSourceSequence")
    text = sources[0].get("CodeMeaning", "") if sources else channel.get("ChannelLabel", "")
    return str(text)


def _millivolts(dataset: Any, index: int, path: Path) -> FloatArray:
    group = dataset.WaveformSequence[index]
    signal = np.asarray(dataset.waveform_array(index), np.float32).T.copy()
    padding = group.get("WaveformPaddingValue")
    if padding is not None and isinstance(padding, bytes) and group.WaveformBitsAllocated == 16:
        raw = np.frombuffer(group.WaveformData, "<i2").reshape(-1, len(signal)).T
        signal[raw == np.frombuffer(padding, "<i2")[0]] = np.nan
    for row, channel in enumerate(group.ChannelDefinitionSequence):
        name = _channel_name(channel)
        if lead_of(name) is None:
            continue
        if "ChannelSensitivity" not in channel or not float(channel.ChannelSensitivity):
            raise DataError(f"{path}: expected a channel sensitivity for lead {name}, got none: the amplitude is unknown; export it again")
        unit = str(channel.ChannelSensitivityUnitsSequence[0].CodeValue)
        if unit.lower() not in MILLIVOLTS:
            raise DataError(f"{path}: expected volts for lead {name} ({', '.join(MILLIVOLTS)}), got {unit!r}; export it again")
        signal[row] *= MILLIVOLTS[unit.lower()]
    return signal
