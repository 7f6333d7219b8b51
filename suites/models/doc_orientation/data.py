"""A scanned book page and parts of it, turned by 0, 90, 180 and 270 degrees."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE, IMAGES = 224, 48
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


def images(assets: Mapping[str, Path]) -> NDArray[np.float32]:
    """Normalised as for ImageNet: [48, 3, 224, 224]; image i is turned by i % 4 quarters."""
    page, rng = Image.open(assets["page"]).convert("RGB"), np.random.default_rng(2)
    found = []
    for index in range(IMAGES):
        scale = rng.uniform(0.6, 1.0)
        width, height = int(page.width * scale), int(page.height * scale)
        x, y = int(rng.integers(0, page.width - width + 1)), int(rng.integers(0, page.height - height + 1))
        part = page.crop((x, y, x + width, y + height)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        turned = np.rot90(np.asarray(part, np.float32) / 255, index % 4)
        found.append(((turned - MEAN) / STD).transpose(2, 0, 1))
    return np.stack(found).astype(np.float32)


def labels() -> NDArray[np.int64]:
    """The model's class of each image: how it must be turned back."""
    return -np.arange(IMAGES, dtype=np.int64) % 4
