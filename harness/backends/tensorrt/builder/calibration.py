"""TensorRT's own calibration cache: a header that names version and algorithm, then a scale for each tensor.

A scale is the largest magnitude divided by 127, written as the hexadecimal digits of a big-endian FP32.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from harness.errors import DataError

LARGEST_CODE = 127.0
HEADER = re.compile(r"TRT-\d+-\w+$")
ALGORITHMS = {"entropy": "EntropyCalibration2", "minmax": "MinMaxCalibration"}


@dataclass(frozen=True)
class CalibrationTable:
    """A calibration cache: its first line, and the largest magnitude of each tensor by name."""

    header: str
    ranges: Mapping[str, float]

    @property
    def algorithm(self) -> str:
        """`EntropyCalibration2` or `MinMaxCalibration`."""
        return self.header.split("-", 2)[2]

    @property
    def method(self) -> str:
        """`entropy` or `minmax`.  Raises DataError for an algorithm of another name."""
        found = [method for method, name in ALGORITHMS.items() if name == self.algorithm]
        if not found:
            raise DataError(
                f"calibration by {self.algorithm}: must be one of {', '.join(ALGORITHMS.values())}"
            )
        return found[0]


def header_of(version: str, method: str) -> str:
    """The first line that TensorRT `version` (`10.3.0`) writes for `entropy` or `minmax`."""
    parts = [int(part) for part in re.findall(r"\d+", version)[:3]]
    major, minor, patch = (*parts, 0, 0, 0)[:3]
    factor = 10000 if major >= 10 else 1000
    number = major * factor + minor * 100 + patch
    return f"TRT-{number}-{ALGORITHMS[method]}"


def parse(text: str, source: object) -> CalibrationTable:
    """The table in the text of a calibration cache; `source` names it in errors.  Raises DataError."""
    lines = text.strip().splitlines()
    if not lines or not HEADER.match(lines[0]):
        first = lines[0][:80] if lines else ""
        raise DataError(f"{source}: line 1 = {first!r}: must be TRT-<version>-<algorithm>")
    numbered = enumerate(lines[1:], start=2)
    return CalibrationTable(lines[0], dict(_entry(line, number, source) for number, line in numbered if line))


def _entry(line: str, number: int, source: object) -> tuple[str, float]:
    name, separator, digits = line.rpartition(": ")
    if not separator or not re.fullmatch(r"[0-9a-fA-F]{1,8}", digits):
        raise DataError(f"{source}: line {number} = {line[:80]!r}: must be <tensor>: <8 hexadecimal digits>")
    (scale,) = struct.unpack(">f", bytes.fromhex(digits.zfill(8)))
    if not math.isfinite(scale) or scale < 0:
        raise DataError(f"{source}: line {number}: scale {scale} of {name!r} must be finite and >= 0")
    return name, scale * LARGEST_CODE


def render(table: CalibrationTable) -> str:
    """The text of a calibration cache."""
    lines = [table.header]
    for name, largest in table.ranges.items():
        lines.append(f"{name}: {struct.pack('>f', largest / LARGEST_CODE).hex()}")
    return "\n".join(lines) + "\n"
