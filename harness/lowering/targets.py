"""What deployed models run on: targets, families of their versions, which operators their parsers know.

Sources: [8.6] and [10.1], onnx-tensorrt's docs/operators.md and importers at those tags; [10.15], the same
document at 10.15; [log], its docs/Changelog.md up to 10.15; [RTX 1.7], the parser and builder of TensorRT-RTX
1.7, asked (tests/backends/tensorrt/test_deployable.py asks again).  Of 11.x there is what RTX shows, no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

Target = Literal["tensorrt", "tensorrt_rtx", "onnxruntime"]
Version = tuple[int, int]
FIRST: Version = (8, 6)
"""The oldest version of TensorRT that is known here."""
FAMILIES: Mapping[str, tuple[Version, Version]] = MappingProxyType(
    {
        "8.6": ((8, 6), (9, 3)),
        "10.0 to 10.4": ((10, 0), (10, 4)),
        "10.5 to 10.9": ((10, 5), (10, 9)),
        "10.10 to 10.16": ((10, 10), (10, 99)),
        "11": ((11, 0), (11, 99)),
    }
)
"""Families of TensorRT's versions, with the first and the last of each."""

SINCE: Mapping[str, Version] = MappingProxyType(
    {
        # [log] 9.2, [8.6] lists it as unsupported
        "Hardmax": (10, 0),
        # [10.1] has importers that [8.6] has not
        "CastLike": (10, 0),
        "Gelu": (10, 0),
        "Mish": (10, 0),
        # [log]
        "DeformConv": (10, 1),
        "BlackmanWindow": (10, 4),
        "HammingWindow": (10, 4),
        "HannWindow": (10, 4),
        "STFT": (10, 5),
        "Attention": (10, 14),
        "RMSNormalization": (10, 15),
        "RotaryEmbedding": (10, 15),
        "TensorScatter": (10, 15),
        # not in [10.15], known to [RTX 1.7]
        "CausalConvWithState": (11, 0),
        "LinearAttention": (11, 0),
        "Swish": (11, 0),
    }
)
"""Operators that TensorRT's parser learnt after `FIRST`, with the version that did."""

NEVER = frozenset(
    {
        "AffineGrid", "Bernoulli", "BitCast", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr",
        "BitwiseXor", "CenterCropPad", "Col2Im", "Compress", "ConcatFromSequence", "CumProd", "DFT",
        "Det", "FlexAttention", "Gradient", "ImageDecoder", "LabelEncoder", "MaxRoiPool", "MaxUnpool",
        "MelWeightMatrix", "Multinomial", "NegativeLogLikelihoodLoss", "Optional",
        "OptionalGetElement", "OptionalHasElement", "RegexFullMatch", "SequenceAt",
        "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength",
        "SequenceMap", "SoftmaxCrossEntropyLoss", "SplitToSequence", "StringConcat",
        "StringNormalizer", "StringSplit", "SwiGLU", "TfIdfVectorizer", "Unique",
    }
)  # fmt: skip
"""Operators that no parser knows: [8.6], [10.1] and [10.15] refuse or lack them, [RTX 1.7] refuses them."""

PLUGINS_OF_RTX = frozenset({"DeformConv", "NonZero", "RoiAlign"})
"""Operators that TensorRT's parser gives to plugins, which TensorRT-RTX does not bring along [RTX 1.7]."""

BY_NAME = frozenset({"Gelu", "QuantizeLinear", "DequantizeLinear"})
"""Operators of com.microsoft that parsers take for ONNX's of that name; they look at no domain [RTX 1.7]."""

UNTYPED = frozenset(
    {
        "INT16", "UINT16", "UINT32", "UINT64", "STRING", "COMPLEX64", "COMPLEX128", "UINT4", "INT2", "UINT2",
        "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ",
    }
)  # fmt: skip
"""Types that TensorRT lacks: [8.6], [10.1] and [10.15] list those it has, [RTX 1.7] refuses these."""


def families_before(since: Version) -> tuple[str, ...]:
    """The families of which some version is older than `since`."""
    return tuple(name for name, (first, _) in FAMILIES.items() if first < since)
