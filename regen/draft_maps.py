"""What in its study moved each sentence of a draft, for the page.

    maps = draft_maps(pipeline.space, study, draft)

Of a chest X-ray every sentence has a map, of how well it matches the image; of an ECG those whose statement the encoder's head measures.
"""

from __future__ import annotations

import numpy as np

from regen.data_prep.clean import standard
from regen.data_prep.statements import CODES
from regen.encoders.ecg_map import statement_maps
from regen.encoders.heatmap import sentence_maps
from regen.encoders.recordings import FS, clean_and_measure
from regen.encoders.space import Space
from regen.generators.prompt import states
from regen.study import Draft, FloatArray, Sentence, Study


def draft_maps(space: Space, study: Study, draft: Draft) -> list[FloatArray]:
    """Of a chest X-ray one array a view, (sentences, h, w); of an ECG one, (sentences, 12, seconds), zero where nothing was measured."""
    if not draft.sentences:
        return []
    if study.cxr:
        return [sentence_maps(space, view.pixels, [s.text for s in draft.sentences]) for view in study.cxr]
    measured = {i: s.finding for i, s in enumerate(draft.sentences) if s.finding in CODES and s.probability is not None}
    if study.ecg is None or space.ecg is None or not measured:
        return []
    signal, _ = standard(study.ecg, FS)
    cleaned, measures = clean_and_measure(signal[None], FS)
    codes = [code for code in measured.values() if code is not None]
    made = statement_maps(space.ecg, cleaned[0], measures[0], codes, [denied(draft.sentences[i]) for i in measured])
    out = np.zeros((len(draft.sentences), *made.shape[1:]), np.float32)
    out[list(measured)] = made
    return [out]


def denied(sentence: Sentence) -> bool:
    """It says that its finding is not there."""
    return dict(states(sentence.text)).get(sentence.finding or "") == "absent"
