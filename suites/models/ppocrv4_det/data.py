"""A scanned book page, parts of it enlarged, and a photo without text, as PP-OCR's detector reads images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

WIDTH, HEIGHT, PARTS = 480, 320, 15


def as_input(image: Image.Image) -> NDArray[np.float32]:
    """RGB from -1 to 1, [3, height, width]."""
    pixels = np.asarray(image.convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR), np.float32)
    return ((pixels / 255 - 0.5) / 0.5).transpose(2, 0, 1)


def images(assets: Mapping[str, Path]) -> NDArray[np.float32]:
    """The page, parts of it (seeded), a photo of a cup: [17, 3, 320, 480]."""
    page, rng = Image.open(assets["page"]), np.random.default_rng(5)
    found = [page]
    for scale in rng.uniform(0.35, 0.9, PARTS):
        width, height = int(page.width * scale), int(page.height * scale)
        x, y = rng.integers(0, page.width - width + 1), rng.integers(0, page.height - height + 1)
        found.append(page.crop((int(x), int(y), int(x) + width, int(y) + height)))
    return np.stack([as_input(image) for image in [*found, Image.open(assets["coffee"])]])
