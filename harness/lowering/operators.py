"""Groups of default-domain operators that passes treat alike."""

MOVES = frozenset(
    {
        "Identity",
        "Reshape",
        "Transpose",
        "Squeeze",
        "Unsqueeze",
        "Flatten",
        "Slice",
        "Split",
        "Concat",
        "Expand",
        "Tile",
        "Gather",
        "GatherND",
        "GatherElements",
        "Where",
        "DepthToSpace",
        "SpaceToDepth",
    }
)
"""Operators that move values, whatever their type."""

PASS_THROUGH = MOVES | frozenset(
    {
        "Pad",
        "MaxPool",
        "Dropout",
        "Compress",
        "ReverseSequence",
        "ScatterND",
        "ScatterElements",
        "TensorScatter",
    }
)
"""Operators that compute no new values; in 16 bits they follow their producers."""

READERS = frozenset({"Cast", "Shape", "Size"})
"""Operators that read any type, so that nothing is converted for them."""

TYPED_BY_ATTRIBUTE = frozenset(
    {"RandomNormalLike", "RandomUniformLike", "Bernoulli", "BitCast", "EyeLike", "Multinomial"}
)
"""Operators whose output type follows an attribute, not their input's type alone."""

RECURRENT = frozenset({"GRU", "LSTM", "RNN"})

_ONLY_FP32 = frozenset({"Celu", "MeanVarianceNormalization", "Scan"})
NOT_IN_HALF = {
    "FP16": _ONLY_FP32,
    "BF16": _ONLY_FP32 | {"ConvTranspose", "GRU", "HardSwish", "LpNormalization", "LpPool", "Mish"},
}
"""Operators that TensorRT parses and builds in FP32, but not in that type (found with TensorRT-RTX 1.7).

A 16-bit Scan does not build where it scans an input of the model, moved or not; elsewhere it may.
"""

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators that INT8 quantizes."""

QDQ = frozenset({"QuantizeLinear", "DequantizeLinear"})

DYNAMIC_QUANTIZATION = frozenset(
    {"DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "DynamicQuantizeLSTM"}
)

QUANTIZED_ARITHMETIC = frozenset({"QLinearConv", "QLinearMatMul"})
