"""Which operators may read an input of type UINT8, asked of the real parser and builder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.lowering.passes.normalise import normalise
from harness.lowering.refusals import all_refusals
from tests.backends.tensorrt.test_deployable import words_against
from tests.helpers.tensorrt import rtx

U8, FLOAT, INT64, BOOL = TensorProto.UINT8, TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
SHAPE = [2, 4, 4, 4]


def index(*values: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array(values, np.int64)


# Operator -> further inputs (arrays are constants, "z" is a second input), attributes, type of the output.
CASES: dict[str, tuple[tuple[Any, ...], dict[str, Any], int]] = {
    **{op: ((), {}, U8) for op in ("Abs", "Flatten", "Identity", "Sign", "Transpose", "Clip")},
    **{op: (("z",), {}, U8) for op in ("Add", "Sub", "Mul", "Div", "Min", "Max", "Mod")},
    **{op: (("z",), {}, BOOL) for op in ("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual")},
    **{f"Reduce{kind}": ((index(1),), {}, U8) for kind in ("Max", "Min")},
    "ArgMax": ((), {"axis": 1}, INT64),
    "ArgMin": ((), {"axis": 1}, INT64),
    "Cast": ((), {"to": FLOAT}, FLOAT),
    "Concat": (("z",), {"axis": 1}, U8),
    "DepthToSpace": ((), {"blocksize": 2}, U8),
    "SpaceToDepth": ((), {"blocksize": 2}, U8),
    "Expand": ((index(2, 4, 4, 4),), {}, U8),
    "Gather": ((index(0, 1),), {"axis": 1}, U8),
    "MaxPool": ((), {"kernel_shape": [2, 2]}, U8),
    "Pad": ((index(0, 0, 1, 1, 0, 0, 1, 1),), {}, U8),
    "Reshape": ((index(2, 64),), {}, U8),
    "Resize": ((None, np.array([1, 1, 2, 2], np.float32)), {"mode": "nearest"}, U8),
    "Shape": ((), {}, INT64),
    "Slice": ((index(0), index(2), index(1)), {}, U8),
    "Split": ((), {"axis": 1, "num_outputs": 1}, U8),
    "Tile": ((index(1, 2, 1, 1),), {}, U8),
    "Unsqueeze": ((index(0),), {}, U8),
}


def model(op_type: str) -> ir.Model:
    more, attributes, dtype = CASES[op_type]
    constants = [numpy_helper.from_array(a, f"c{i}") for i, a in enumerate(more) if isinstance(a, np.ndarray)]
    names = [f"c{i}" if isinstance(a, np.ndarray) else a or "" for i, a in enumerate(more)]
    node = helper.make_node(op_type, ["x", *names], ["y"], op_type, **attributes)
    inputs = [helper.make_tensor_value_info(name, U8, SHAPE) for name in ("x", "z")[: 1 + ("z" in names)]]
    outputs = [helper.make_tensor_value_info("y", dtype, None)]
    graph = helper.make_graph([node], "g", inputs, outputs, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    return normalise(ir.serde.deserialize_model(onnx.shape_inference.infer_shapes(made)))


@pytest.mark.parametrize("op_type", CASES)
def test_the_table_says_what_the_parser_does(tmp_path: Path, op_type: str) -> None:
    made = model(op_type)
    refused = words_against(rtx(), made, tmp_path / "m.onnx", build=True)
    foreseen = [one.reason for one in all_refusals(made) if "UINT8" in one.reason]
    assert bool(foreseen) == bool(refused), (foreseen, refused)
