"""The task metric of silero VAD: agreement with the hand-made annotation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def agreement(outputs: Mapping[str, NDArray[Any]], labels: NDArray[np.int64]) -> float:
    """Share of frames whose speech probability, above 0.5 or not, agrees with `labels` (0 or 1)."""
    spoken = outputs["output"].reshape(len(labels)) > 0.5
    return float(np.mean(spoken == (labels == 1)))
