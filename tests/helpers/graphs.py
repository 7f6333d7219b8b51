"""Generated graphs over one face: arithmetic mixed with every operator that moves values, and with bodies."""

from __future__ import annotations

import re

import numpy as np
import onnx
import onnx_ir as ir
from hypothesis import strategies as st

from harness.lowering.passes.normalise import normalise
from tests.helpers.lowering import proto

FACE = "[1,4,4,4]"
SHAPE = (1, 4, 4, 4)
INTEGERS = {
    "i_flat": np.array([-1]),
    "i_0": np.array([0]),
    "i_1": np.array([1]),
    "i_2": np.array([2]),
    "i_3": np.array([3]),
    "i_4": np.array([4]),
    "i_7": np.array([7]),
    "i_m1": np.array([-1]),
    "i_m2": np.array([-2]),
    "i_m9": np.array([-9]),
    "i_s1": np.array(1),
    "i_s3": np.array(3),
    "i_shape": np.array(SHAPE),
    "i_twice": np.array([2, 4, 4, 4]),
    "i_tile": np.array([1, 1, 1, 2]),
    "i_order": np.array([2, 0, 3, 1]),
    "i_rows": np.array([[[0, 3], [0, 1], [0, 2], [0, 0]]]),
    "i_each": np.random.default_rng(3).integers(0, 4, SHAPE),
    "i_place": np.array([[0, 2]]),
    "i_part": np.full((1, 1, 4, 4), 3),
    "i_pads": np.array([0, 0, 1, 0, 0, 0, 0, 0]),
    "i_some": np.array([True, False, True, False]),
    "i_rest": np.array([False, True, False, True]),
    "i_length": np.array([3]),
    "yes": np.array(True),
}
WEIGHTS = {
    "near": np.linspace(-1.3, 1.7, 64, dtype=np.float32).reshape(SHAPE),
    "much": np.full(SHAPE, 4096, np.float32),
    "small": np.full(SHAPE, 3e-7, np.float32),
    "top": np.full(SHAPE, 65504, np.float32),
    "beyond": np.full(SHAPE, 7e4, np.float32),
}
X = {"x": ((np.arange(64, dtype=np.float32) - 20) / np.float32(0.7)).reshape(SHAPE)}

ARITHMETIC = (
    *(f"y = {op}({{a}}, {{b}})" for op in ("Add", "Sub", "Mul", "Div", "Max", "Min")),
    *(f"y = {op}({{a}})" for op in ("Neg", "Abs", "Floor", "Relu")),
    "h = Abs({a}) y = Sqrt(h)",
    "h = ReduceMax <keepdims = 1> ({a}, i_m1) y = Sub({a}, h)",
)
MOVES = (
    "y = Identity({a})",
    "h = Reshape({a}, i_flat) y = Reshape(h, i_shape)",
    "y = Transpose <perm = [0, 2, 3, 1]> ({a})",
    "h = Squeeze({a}, i_0) y = Unsqueeze(h, i_0)",
    "h = Flatten({a}) y = Reshape(h, i_shape)",
    "h = Slice({a}, i_m1, i_m9, i_2, i_m1) y = Identity(h)",
    "p, q = Split <axis = 1, num_outputs = 2> ({a}) y = Concat <axis = 1> (q, p)",
    "h = Concat <axis = 3> ({a}, {b}) y = Slice(h, i_2, i_m2, i_3)",
    "h = Expand({a}, i_twice) y = Slice(h, i_1, i_2, i_0)",
    "h = Tile({a}, i_tile) y = Slice(h, i_3, i_7, i_3)",
    "y = Gather <axis = 1> ({a}, i_order)",
    "y = GatherND({a}, i_rows)",
    "y = GatherElements <axis = 2> ({a}, i_each)",
    "c = Less({a}, {b}) y = Where(c, {b}, {a})",
    "y = Where(yes, {a}, {b})",
    "h = DepthToSpace <blocksize = 2> ({a}) y = SpaceToDepth <blocksize = 2> (h)",
    "h = SpaceToDepth <blocksize = 2> ({a}) y = DepthToSpace <blocksize = 2> (h)",
    'h = Pad <mode = "edge"> ({a}, i_pads) y = Slice(h, i_0, i_4, i_2) ',
    "y = MaxPool <kernel_shape = [2, 2], pads = [0, 0, 1, 1]> ({a})",
    "y = Dropout({a})",
    "p = Compress <axis = 2> ({a}, i_some) q = Compress <axis = 2> ({a}, i_rest)"
    " y = Concat <axis = 2> (p, q)",
    "y = ReverseSequence <batch_axis = 0, time_axis = 1> ({a}, i_length)",
    "h = GatherND({b}, i_place) y = ScatterND({a}, i_place, h)",
    "h = Slice({b}, i_1, i_2, i_1) y = ScatterElements <axis = 1> ({a}, i_part, h)",
)
BODIES = (
    "y = If (yes) <then_branch = f () => ({T}{F} ty) {{ th = Mul({a}, {b}) ty = Tile(th, i_ones) }},"
    " else_branch = g () => ({T}{F} ey) {{ ey = Neg({b}) }}>",
    "y, h = Loop (i_s3, , {a}) <body = f (int64 li, bool lc, {T}{F} ls) => (bool ld, {T}{F} le, {T}{F} lo)"
    " {{ ld = Identity(lc) lh = Add(ls, {b}) lt = Where(yes, lh, ls) le = Sub(lt, {a}) lo = Identity(lh) }}>",
    "p = Squeeze({a}, i_0) q = Squeeze({b}, i_0) r = Gather <axis = 0> (q, i_s1)"
    " s, h = Scan <num_scan_inputs = 1, body = f ({T}[4,4] ss, {T}[4,4] sx) => ({T}[4,4] se, {T}[4,4] so)"
    " {{ sh = Mul(ss, sx) st = Tile(sh, i_both) se = Add(st, sx) so = Sub(se, ss) }}> (r, p)"
    " y = Unsqueeze(h, i_0)",
)
INTEGERS |= {"i_ones": np.array([1, 1, 1, 1]), "i_both": np.array([1, 1])}
ROUNDED = (
    "y = MatMul({a}, {b})",
    "y = Sigmoid({a})",
    "y = Tanh({a})",
    "y = Softmax <axis = 3> ({a})",
    "h = ReduceSum <keepdims = 1> ({a}, i_1) y = Expand(h, i_shape)",
)
"""Results whose last bit in FP32 depends on how a runtime sums or approximates."""

COMPUTING = (
    *(
        f"y = {op}({{a}})"
        for op in ("Exp", "Erf", "Sin", "Sign", "Round", "Ceil", "HardSwish", "Elu", "Softplus")
    ),
    *(f"h = {op}({{a}}) y = Expand(h, i_shape)" for op in ("GlobalAveragePool", "GlobalMaxPool")),
    *(
        f"h = {op}({{a}}, i_m1) y = Expand(h, i_shape)"
        for op in ("ReduceMean", "ReduceL2", "ReduceSumSquare")
    ),
    "h = Abs({a}) y = Pow(h, {b})",
    "y = LeakyRelu <alpha = 0.1> ({a})",
    "y = Clip({a}, w_low, w_high)",
    "y = PRelu({a}, {b})",
    "y = LogSoftmax <axis = 1> ({a})",
    "y = Trilu({a})",
    "y = CumSum({a}, i_s1)",
    "y, h = TopK <axis = 3> ({a}, i_4)",
    "y = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> ({a}, w_conv)",
    "y = ConvTranspose <pads = [1, 1, 1, 1]> ({a}, w_conv)",
    "y = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> ({a})",
    "y = InstanceNormalization({a}, w_four, w_four)",
    "y = LayerNormalization({a}, w_four)",
    "y = BatchNormalization({a}, w_four, w_four, w_four, w_four)",
    "y = LpNormalization({a})",
    "h = Flatten <axis = 3> ({a}) p = Gemm(h, w_square, w_four) y = Reshape(p, i_shape)",
    'y = Einsum <equation = "bchw,wd->bchd"> ({a}, w_square)',
    'h = Resize <mode = "nearest"> ({a}, , w_scales) y = Slice(h, i_0, i_4, i_3)',
    'h = Resize <mode = "linear"> ({a}, , w_scales) y = Slice(h, i_0, i_4, i_3)',
    'h = GatherND({b}, i_place) y = ScatterND <reduction = "add"> ({a}, i_place, h)',
    'y = Pad <mode = "constant"> ({a}, i_nopads, w_low)',
    "y = Mean({a}, {b}, {a})",
    "y = Sum({a}, {b}, {a})",
)
"""Other operators that lowering puts into 16 bits, most of which the runtime has no 16-bit kernel for."""
INTEGERS |= {"i_nopads": np.zeros(8, np.int64)}
HELD = {
    "w_low": np.array(-2000, np.float32),
    "w_high": np.array(4099, np.float32),
    "w_conv": np.linspace(-1, 1, 144, dtype=np.float32).reshape(4, 4, 3, 3),
    "w_four": np.linspace(0.5, 1.5, 4, dtype=np.float32),
    "w_square": np.linspace(-1, 1, 16, dtype=np.float32).reshape(4, 4),
    "w_scales": np.array([1, 1, 1, 2], np.float32),
}


@st.composite
def graphs(draw: st.DrawFn, number: str = "float") -> ir.Model:
    """A normalised graph of `number`s; its inputs and outputs are FLOAT."""
    forms = st.one_of(*(st.sampled_from(group) for group in (ARITHMETIC, MOVES, ARITHMETIC, MOVES, BODIES)))
    made = ["x_", "near_"]
    lines = []
    for k in range(draw(st.integers(2, 9))):
        names = st.sampled_from([*made[-3:], *made, *(f"{name}_" for name in WEIGHTS)])
        lines.append(line(draw(forms), k, draw(st.sampled_from(made[-2:])), draw(names), number))
        made.append(f"n{k}_y")
    shown = {made[-1], *draw(st.lists(st.sampled_from(made[2:]), max_size=2))}
    return built(lines, sorted(shown), number)


def line(form: str, k: int, a: str, b: str, number: str) -> str:
    """A form with names of its own, reading `a` and `b`."""
    for name in ("y", "h", "p", "q", "r", "s", "c", "ty", "th", "ey", *_INNER, "f", "g"):
        form = _renamed(form, name, f"n{k}_{name}")
    return form.format(a=a, b=b, T=number, F=FACE)


_INNER = ("li", "lc", "ls", "ld", "le", "lo", "lh", "lt", "ss", "sx", "se", "so", "sh", "st")


def _renamed(form: str, name: str, new: str) -> str:
    return re.sub(rf"(?<![\w{{]){name}(?![\w}}])", new, form)


def built(lines: list[str], shown: list[str], number: str) -> ir.Model:
    """The model whose inputs and weights enter through `Cast`, for all that `number` is."""
    to = onnx.TensorProto.DataType.Value(number.upper())
    if number == "float":
        start = [f"{name}_ = Identity({name})" for name in ("x", *WEIGHTS)]
        end = [f"out_{name} = Identity({name})" for name in shown]
    else:
        start = [f"{name}_ = Cast <to = {to}> ({name})" for name in ("x", *WEIGHTS)]
        end = [f"out_{name} = Cast <to = 1> ({name})" for name in shown]
    ends = ", ".join(f"float{FACE} out_{name}" for name in shown)
    body = "\n".join([*start, *lines, *end])
    parsed = proto(f"g (float{FACE} x) => ({ends}) {{ {body} }}", 22 if number == "bfloat16" else 19)
    arrays = {**WEIGHTS, **INTEGERS, **HELD}
    parsed.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in arrays.items())
    return normalise(ir.serde.deserialize_model(parsed))
