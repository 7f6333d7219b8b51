"""Real files of 14 types as magika reads them, with their true types."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BLOCK, PART, PADDING = 4096, 1024, 256
TYPES = {
    "astronaut": "png",
    "rocket": "jpeg",
    "multipage": "tiff",
    "tiny": "gif",
    "fetchers": "python",
    "cascade": "xml",
    "faces": "npy",
    "disparity": "npz",
    "iris": "csv",
    "digits": "gzip",
    "description": "rst",
    "speech": "wav",
    "types": "json",
    "network": "onnx",
}
"""True type of each asset, by the asset's name in the spec."""


def features(content: bytes) -> list[int]:
    """The first and the last 1,024 bytes without white space around, padded with 256."""
    start = content[:BLOCK].lstrip()[:PART]
    end = content[-BLOCK:].rstrip()[-PART:]
    padding = [PADDING] * PART
    return [*start, *padding[len(start) :], *padding[len(end) :], *end]


def files(assets: Mapping[str, Path]) -> NDArray[np.int32]:
    """[14, 2048]."""
    return np.array([features(assets[name].read_bytes()) for name in TYPES], np.int32)


def labels(assets: Mapping[str, Path]) -> NDArray[np.int64]:
    """The index of each file's true type among the model's classes: [14]."""
    classes = json.loads(assets["config"].read_text())["target_labels_space"]
    return np.array([classes.index(kind) for kind in TYPES.values()], np.int64)
