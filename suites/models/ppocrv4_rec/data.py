"""Lines of a scanned book page, cut out and scaled as PP-OCR's recogniser reads them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

WIDTH, HEIGHT, LINES, SHIFTS, PAGE_LINES = 320, 48, 6, 1, 9
INK = 40
"""How much darker than the paper around it a pixel must be to count as ink."""


def rows(page: Image.Image) -> list[int]:
    """The middles of the six lines with most ink, top to bottom."""
    grey = np.asarray(page.convert("L"), np.float32)
    paper = np.stack([np.median(grey[:, max(0, x - 40) : x + 40]) for x in range(page.width)])
    ink, step = ((paper[None] - grey) > INK).mean(1), page.height / PAGE_LINES
    middles = range(int(step // 2), page.height - int(step // 2))
    found: list[int] = []
    for y in sorted(middles, key=lambda y: -ink[max(0, y - 4) : y + 5].mean()):
        if all(abs(y - other) >= step * 0.7 for other in found):
            found.append(y)
    return sorted(found[:LINES])


def lines(assets: Mapping[str, Path]) -> NDArray[np.float32]:
    """Four cuts of each line, RGB from -1 to 1: [24, 3, 48, 320]."""
    page = Image.open(assets["page"]).convert("RGB")
    high = page.height / PAGE_LINES * 1.05
    found = []
    for shift in range(SHIFTS):
        for y in rows(page):
            left, top = shift * page.width // 5, int(y - high / 2)
            right = min(page.width, left + int(high * WIDTH / HEIGHT))
            cut = page.crop((left, top, right, int(y + high / 2)))
            pixels = np.asarray(cut.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR), np.float32)
            found.append(((pixels / 255 - 0.5) / 0.5).transpose(2, 0, 1))
    return np.stack(found)
