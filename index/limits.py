"""How near the nearest case of a usual study is: below that a study is unlike what was indexed, and its draft says 'low_evidence'.

nearest_limit(archive.part("cxr"), vectors, askers)          0.81: one in fifty studies that the index does not hold lies farther away
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from regen.index.case_index import Asker, CaseIndex
from regen.study import FloatArray

RARE = 0.02
"""Share of usual studies that fall under the limit, as in the ECG writer's evidence."""
FEWEST = 50
"""Studies that set a limit: with fewer, one in fifty is nobody."""


def nearest_limit(index: CaseIndex, vectors: FloatArray, askers: Sequence[Asker]) -> float | None:
    """The RARE quantile of the cosine of each study's nearest case among those that it may see.

    vectors: (n, dim) unit, of studies that the index does not hold. None where fewer than FEWEST of them may see a case.
    """
    if not len(vectors):
        return None
    ids, scores = index.search(vectors, 1, askers)
    seen = scores[:, 0][ids[:, 0] >= 0]
    return float(np.quantile(seen, RARE)) if len(seen) >= FEWEST else None
