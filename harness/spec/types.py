"""The words that the tables of a model spec are made of: names, pins, shapes, dtypes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

_SAFE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
_SHA256 = r"^[0-9a-f]{64}$"
_PIN = (
    r"^(npm:(@[a-z0-9][a-z0-9._~-]*/)?[a-z0-9][a-z0-9._~-]*@[0-9][0-9A-Za-z.+-]*"
    r"|[A-Za-z0-9][A-Za-z0-9._-]*==[0-9][0-9A-Za-z.!+_-]*)$"
)
_CODE = r"[^:\x00-\x1f]+\.py:[A-Za-z_][A-Za-z0-9_]*"
_PATH = r"^[^\x00\r\n]+$"
_CAPABILITY = r"^[1-9][0-9]?\.[0-9]$"
AXIS_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"

PATTERN_RULES: Mapping[str, str] = MappingProxyType(
    {
        _SAFE_NAME: "must be letters, digits, '.', '_' and '-', and start with a letter or digit",
        _SHA256: "must be 64 hexadecimal digits in lower case",
        _PIN: "must be a package at one version: name==version (PyPI) or npm:name@version",
        f"^{_CODE}$": "must be file.py:function",
        f"^(top1|{_CODE})$": "must be top1 or file.py:function",
        f"^(argmax|{_CODE})$": "must be argmax or file.py:function",
        _PATH: "must be a path, on one line",
        _CAPABILITY: "must be a compute capability in quotes, as 8.9",
        AXIS_NAME: "must be letters, digits and '_', and not start with a digit",
    }
)
"""What each pattern asks for, in words."""

SafeName = Annotated[str, Field(pattern=_SAFE_NAME, max_length=100)]
"""Names that become test ids, file names and HTML anchors as they are."""

Capability = Annotated[str, Field(pattern=_CAPABILITY)]
"""A GPU's compute capability."""

Sha256 = Annotated[str, Field(pattern=_SHA256)]
PackagePin = Annotated[str, Field(pattern=_PIN, max_length=200)]
"""A package at one version: `name==version` on PyPI or `npm:name@version`; never an option or an address."""

CodeRef = Annotated[str, Field(pattern=f"^{_CODE}$", max_length=300)]
"""`file.py:function`, the file beside the spec."""

MetricName = Annotated[str, Field(pattern=f"^(top1|{_CODE})$", max_length=300)]
Choice = Annotated[str, Field(pattern=f"^(argmax|{_CODE})$", max_length=300)]
FilePath = Annotated[str, Field(pattern=_PATH, max_length=4000)]
Axis = Annotated[int, Field(ge=0)]
Size = Annotated[int, Field(ge=0, le=2**40)]
Shape = tuple[Size, ...]
Count = Annotated[int, Field(ge=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]

DType = Literal[
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
]


class Part(BaseModel):
    """Base of every table of a spec: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")
