"""Graphs that show whether a runtime keeps the rounding of an emulation around each operator.

Each operator that only moves values, and each that holds a subgraph, moves ones that were added to 4096: 16
bits round the sum back to 4096.  It stands alone, behind a Cast, and between a producer and a consumer.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from harness.lowering.emulation.emulate import EmulationPass
from harness.lowering.passes.base import run
from harness.lowering.passes.infer import infer
from harness.lowering.passes.naming import name_nodes

OPSET = 22
"""The first that allows BF16 in most operators."""
ALONE, CHAINED = "alone", "chained"
EXPECTED = MappingProxyType({ALONE: 4096.0, CHAINED: 0.0})
"""What every element of an output of each kind must be."""

_FACE = "[1,4,4,4]"
_MOVED = MappingProxyType(
    {
        "Identity": "Identity({t})",
        "Reshape": "Reshape({t}, flat)",
        "Transpose": "Transpose <perm = [0, 2, 3, 1]> ({t})",
        "Squeeze": "Squeeze({t}, zero)",
        "Unsqueeze": "Unsqueeze({t}, zero)",
        "Flatten": "Flatten({t})",
        "Slice": "Slice({t}, one, two, one)",
        "Split": "Split <axis = 1, num_outputs = 1> ({t})",
        "Concat": "Concat <axis = 1> ({t}, {t})",
        "Expand": "Expand({t}, shape)",
        "Tile": "Tile({t}, repeats)",
        "Gather": "Gather <axis = 1> ({t}, one)",
        "GatherND": "GatherND({t}, place)",
        "GatherElements": "GatherElements <axis = 1> ({t}, places)",
        "Where": "Where(yes, {t}, {t})",
        "DepthToSpace": "DepthToSpace <blocksize = 2> ({t})",
        "SpaceToDepth": "SpaceToDepth <blocksize = 2> ({t})",
        "Pad": 'Pad <mode = "edge"> ({t}, pads)',
        "MaxPool": "MaxPool <kernel_shape = [2, 2]> ({t})",
        "Dropout": "Dropout({t})",
        "Compress": "Compress <axis = 1> ({t}, some)",
        "ReverseSequence": "ReverseSequence <batch_axis = 0, time_axis = 1> ({t}, one)",
        "ScatterND": "ScatterND({t}, place, {t}_row)",
        "ScatterElements": "ScatterElements <axis = 1> ({t}, places, {t}_part)",
        "If": "If (yes) <then_branch = a () => ({half}{face} {y}_a) {{ {y}_a = Identity({t}) }}, "
        "else_branch = b () => ({half}{face} {y}_b) {{ {y}_b = Tile({t}, ones) }}>",
        "Loop": "Loop (one_, , {t}) <body = c (int64 {y}_i, bool {y}_c, {half}{face} {y}_s) => "
        "(bool {y}_d, {half}{face} {y}_e) "
        "{{ {y}_d = Identity({y}_c) {y}_e = Where(yes, {y}_s, {y}_s) }}>",
        "Scan": "Scan <num_scan_inputs = 1, body = d ({half}[4,4,4] {y}_s) => ({half}[4,4,4] {y}_e) "
        "{{ {y}_e = Where(yes, {y}_s, {y}_s) }}> ({t})",
    }
)
OPERATORS = frozenset(_MOVED)
_INITIALIZERS = MappingProxyType(
    {
        "flat": np.array([-1]),
        "zero": np.array([0]),
        "one": np.array([1]),
        "one_": np.array(1),
        "two": np.array([2]),
        "shape": np.array([2, 4, 4, 4]),
        "repeats": np.array([1, 1, 1, 2]),
        "ones": np.array([1, 1, 1, 1]),
        "place": np.array([[0, 1]]),
        "places": np.zeros((1, 1, 4, 4), np.int64),
        "yes": np.array(True),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "some": np.array([True, False]),
    }
)


def probe(half: ir.DataType) -> ir.Model:
    """A graph in `half` that moves ones; outputs are named `<operator>/<kind>`, inputs `<operator>_<kind>_x`.

    Nothing is shared: what has several readers may keep its rounding by chance, and equal nodes become one.
    """
    lines, outputs = ["much = Constant <value_float = 4096.0> ()"], []
    for name, form in _MOVED.items():
        for kind in EXPECTED:
            at = f"{name}_{kind}"
            lines += _start(at, kind, half)
            lines.append(f"{at}_y = {form.format(t=at, y=f'{at}_y', half=half.name.lower(), face=_FACE)}")
            lines += _end(at, f"{name}/{kind}", kind)
            outputs.append(f"{name}/{kind}")
    return _model(lines, outputs)


def ones(model: ir.Model) -> dict[str, NDArray[np.float32]]:
    """Feeds of a probe."""
    return {value.name or "": np.ones((1, 4, 4, 4), np.float32) for value in model.graph.inputs}


def emulated(half: ir.DataType) -> ir.Model:
    """The emulation of `probe`."""
    return run(EmulationPass(), probe(half))[0]


def _start(at: str, kind: str, half: ir.DataType) -> Iterator[str]:
    """4097 behind a Cast, or made in 16 bits."""
    cast = f"Cast <to = {int(half)}>"
    if kind == ALONE:
        yield f"{at}_wide = Add({at}_x, much) {at} = {cast} ({at}_wide)"
    else:
        yield f"{at}_few = {cast} ({at}_x) {at}_many = {cast} (much) {at} = Add({at}_few, {at}_many)"
    if at.startswith("Scatter"):
        yield f"{at}_row = GatherND({at}, place) {at}_part = Slice({at}, zero, one, one)"


def _end(at: str, name: str, kind: str) -> Iterator[str]:
    """FLOAT behind the consumer, or at once."""
    if kind == ALONE:
        yield f'"{name}" = Cast <to = 1> ({at}_y)'
    else:
        yield f'{at}_z = Sub({at}_y, {at}_many) "{name}" = Cast <to = 1> ({at}_z)'


def _model(lines: list[str], outputs: list[str]) -> ir.Model:
    starts = ", ".join(f"float{_FACE} {name.replace('/', '_')}_x" for name in outputs)
    ends = ", ".join(f'float "{name}"' for name in outputs)
    text = f'<ir_version: 10, opset_import: ["" : {OPSET}]> probe ({starts}) => ({ends}) '
    parsed = onnx.parser.parse_model(text + "{" + "\n".join(lines) + "}")
    parsed.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in _INITIALIZERS.items())
    model = ir.serde.deserialize_model(parsed)
    name_nodes(model)
    infer(model)
    return model
