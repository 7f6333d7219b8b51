"""What is fuzzed: each target turns drawn edits into a hostile file and lets the product read it."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tomlkit
from onnx import TensorProto, helper, numpy_helper

from harness.graph import file as onnx_file
from harness.lowering.emulation.emulate import emulate
from harness.lowering.lower import lower, quantizable
from harness.lowering.passes.normalise import normalise
from harness.options import Options
from harness.plugin.preflight import check_spec
from harness.precision import Precision, PrecisionPlan
from harness.report import annotations, baseline, changes, results, summary, terminal
from harness.report.merge import merge
from harness.report.overview import overview
from harness.report.pages import html, trend
from harness.report.plain import dumps
from harness.spec.file import read_spec
from tests.fuzz.edits import Edit, bytes_edited, message_edited, tree_edited
from tests.helpers.models import write_example
from tests.helpers.results import (
    compared,
    engine_record,
    latency_record,
    layers_record,
    outputs_record,
    run,
    search_record,
)

Edits = Sequence[Edit]


@dataclass(frozen=True)
class Target:
    """`make(folder, edits, raw)` writes the hostile file; `read(folder)` is the product.

    `edits` change its structure, `raw` the bytes that come of it.
    """

    make: Callable[[Path, Edits, Edits], None]
    read: Callable[[Path], None]


def prepare(folder: Path) -> None:
    """Everything that targets change one thing of."""
    write_example(folder)


def _make_spec(folder: Path, edits: Edits, raw: Edits) -> None:
    text = tomlkit.dumps(_plain(tree_edited(_spec_tree(), edits)))
    file = folder / "spec.toml"
    file.write_bytes(bytes_edited(text.encode("utf-8", "surrogatepass"), raw))


@cache
def _spec_tree() -> Any:
    rows = {"npz": "data.npz", "member": "rows"}
    generated = {"generator": "integers", "low": 0, "high": 3, "seed": 1}
    return {
        "name": "example",
        "description": "words",
        "precisions": ["fp32", "fp16", "int8"],
        "model": {"onnx": "model.onnx"},
        "inputs": {"input": {"dtype": "float32", "batch_axis": 0, "data": rows}},
        "outputs": {"output": {"compare": "numeric", "scale": 1.5}},
        "profiles": [
            {"name": "small", "shapes": {"input": {"min": [1, 4], "opt": [2, 4], "max": [8, 4]}}},
            {"name": "big", "shapes": {"input": [16, 4]}},
        ],
        "precision": {
            "fp16": {"fp32_nodes": ["layer/*"], "tolerance": {"expected": 1e-3, "limit": 1e-2}},
            "int8": {"calibration": {"method": "percentile", "samples": 4, "data": {"input": generated}}},
        },
        "task": {"metric": "top1", "labels": {"npz": "data.npz", "member": "labels"}, "allowed_drop": 0.1},
        "benchmark": {"batch_sizes": [1, 8]},
        "build": {"typing": "strong", "workspace_bytes": 1024, "plugins": ["a.so"]},
        "exceptions": [{"property": "rebuild", "reason": "none"}],
        "assets": {"a": {"package": "a==1", "member": "b", "sha256": "0" * 64}},
    }  # fmt: skip


def _plain(value: Any) -> Any:
    """`value` without what TOML has no word for."""
    if isinstance(value, dict):
        return {
            str(k).encode("utf-8", "replace").decode(): _plain(v) for k, v in value.items() if v is not None
        }
    if isinstance(value, list):
        return [_plain(v) for v in value if v is not None]
    return value


def _read_spec(folder: Path) -> None:
    check_spec(read_spec(folder / "spec.toml"), Options(allow_code=False))


def _make_results(folder: Path, edits: Edits, raw: Edits) -> None:
    text = json.dumps(tree_edited(_results_tree(), edits))
    (folder / "results.json").write_bytes(bytes_edited(text.encode(), raw))


@cache
def _results() -> results.Results:
    made = outputs_record(data={"outputs": [compared()], "comparison": {"outputs": [compared()]}})
    latencies = latency_record(), latency_record("b", seed=1)
    return run(
        engine_record(), made, *latencies, layers_record(count=3), search_record(), engine_record("b", "int8")
    )


@cache
def _results_tree() -> Any:
    return json.loads(dumps(_results().to_json()))


def _read_results(folder: Path) -> None:
    _use(results.read(folder / "results.json"))


def _make_journal(folder: Path, edits: Edits, raw: Edits) -> None:
    head = {**_results_tree(), "records": [], "tests": []}
    records = [{"record": record} for record in _results_tree()["records"]]
    tree = [head, {"started": "suites/a"}, *records, {"test": _results_tree()["tests"][0]}]
    lines = "".join(f"{json.dumps(line)}\n" for line in tree_edited(tree, edits))
    (folder / results.JOURNAL).write_bytes(bytes_edited(lines.encode(), raw))


def _read_journal(folder: Path) -> None:
    _use(results.recover(folder / results.JOURNAL))


def _use(found: results.Results) -> None:
    """Everything that is made of results."""
    terminal.table(overview(found.records))
    html.page(found)
    trend.page([found, _results()])
    differences = baseline.diff(_results().records, found.records)
    summary.lines(found, differences)
    changes.lines(differences, changes.ORDER)
    annotations.of_records(found.records)
    merge([found, _results()])
    dumps(found.to_json())


def _make_npz(folder: Path, edits: Edits, raw: Edits) -> None:
    """Member headers are edited as text, the archive as bytes."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in _members().items():
            head = data.index(b"{")
            body = bytes_edited(data, edits) if edits[0][1] % 2 else data[:head] + _header(data[head:], edits)
            packed.writestr(f"{name}.npy", body)
    (folder / "data.npz").write_bytes(bytes_edited(archive.getvalue(), raw))


@cache
def _members() -> Mapping[str, bytes]:
    found = {}
    for name, array in {
        "rows": np.arange(40, dtype="f4").reshape(10, 4),
        "labels": np.arange(10) % 3,
    }.items():
        file = io.BytesIO()
        np.save(file, array)
        found[name] = file.getvalue()
    return found


_WORDS = (
    b"99999999999", b"-1", b"'O'", b"'<U4'", b"'V8'", b"True", b"(", b"9" * 5000, b"'<f4,<i8'", b"None",
    b"[('a', '<f4')]", b"__import__('os')", b"18446744073709551616", b"(" * 500, b"4294967295, 4294967297",
)  # fmt: skip


def _header(data: bytes, edits: Edits) -> bytes:
    for _, place, value in edits:
        tokens = [b"10", b"4", b"'<f4'", b"False", b"(10,", b"'shape'"]
        data = data.replace(tokens[place % len(tokens)], _WORDS[value % len(_WORDS)], 1)
    return data


def _make_npy(folder: Path, edits: Edits, raw: Edits) -> None:
    data = _members()["rows"]
    head = data.index(b"{")
    (folder / "rows.npy").write_bytes(bytes_edited(data[:head] + _header(data[head:], edits), raw))


def _read_npy(folder: Path) -> None:
    spec = folder / "spec.toml"
    text = spec.read_text().replace('npz = "data.npz", member = "rows"', 'npy = "rows.npy"')
    spec.write_text(text)
    _read_spec(folder)


def _make_onnx(folder: Path, edits: Edits, raw: Edits) -> None:
    models = _models()
    proto = message_edited(models[edits[0][1] % len(models)], edits)
    (folder / "model.onnx").write_bytes(bytes_edited(proto.SerializeToString(), raw))
    (folder / "model.onnx.data").write_bytes(bytes(64))


@cache
def _models() -> Sequence[onnx.ModelProto]:
    return [_linear(), _conditional(), _convolution(), _external()]


def _model(nodes: Any, inputs: Any, outputs: Any, weights: Any = ()) -> onnx.ModelProto:
    values = [[helper.make_tensor_value_info(n, t, s) for n, t, s in part] for part in (inputs, outputs)]
    graph = helper.make_graph(nodes, "g", *values, list(weights))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _weights(**shapes: tuple[int, ...]) -> list[TensorProto]:
    rng = np.random.default_rng(0)
    return [numpy_helper.from_array(rng.normal(size=s).astype("f4"), n) for n, s in shapes.items()]


FLOAT, BOOL, INT64 = TensorProto.FLOAT, TensorProto.BOOL, TensorProto.INT64


def _linear() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Gemm", ["input", "w", "b"], ["h"], "gemm", alpha=0.5),
        helper.make_node("Softmax", ["h"], ["s"], "softmax", axis=-1),
        helper.make_node("Shape", ["s"], ["shape"], "shape"),
        helper.make_node("Reshape", ["s", "shape"], ["output"], "reshape"),
    ]
    inputs, outputs = [("input", FLOAT, ["batch", 4])], [("output", FLOAT, ["batch", 3])]
    return _model(nodes, inputs, outputs, _weights(w=(4, 3), b=(3,)))


def _conditional() -> onnx.ModelProto:
    def branch(name: str, op: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(f"{name}_y", FLOAT, ["batch", 4])
        return helper.make_graph([helper.make_node(op, ["input"], [f"{name}_y"], name)], name, [], [out])

    branches = {"then_branch": branch("a", "Relu"), "else_branch": branch("b", "Neg")}
    nodes = [
        helper.make_node("ReduceSum", ["input"], ["sum"], "sum", keepdims=0),
        helper.make_node("Cast", ["sum"], ["flag"], "cast", to=BOOL),
        helper.make_node("If", ["flag"], ["y"], "if", **branches),
        helper.make_node("Constant", [], ["c"], "constant", value=_weights(c=(4,))[0]),
        helper.make_node("Mul", ["y", "c"], ["output"], "mul"),
    ]  # fmt: skip
    return _model(nodes, [("input", FLOAT, ["batch", 4])], [("output", FLOAT, ["batch", 4])])


def _convolution() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Unsqueeze", ["input", "axes"], ["x"], "unsqueeze"),
        helper.make_node("Conv", ["x", "w"], ["h"], "conv", pads=[1, 1], kernel_shape=[3]),
        helper.make_node(
            "BatchNormalization", ["h", "one", "one", "one", "one"], ["n"], "norm", epsilon=1e-5
        ),
        helper.make_node("MaxPool", ["n"], ["p"], "pool", kernel_shape=[2], strides=[2]),
        helper.make_node("Flatten", ["p"], ["output"], "flatten"),
    ]
    weights = [*_weights(w=(5, 1, 3), one=(5,)), numpy_helper.from_array(np.array([1]), "axes")]
    return _model(nodes, [("input", FLOAT, ["batch", 4])], [("output", FLOAT, ["batch", 10])], weights)


def _external() -> onnx.ModelProto:
    model = _linear()
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "model.onnx.data", "offset": "0", "length": "48"}.items():
        weight.external_data.add(key=key, value=value)
    return model


def _read_onnx(folder: Path) -> None:
    """Read, draft a spec, normalise, lower to every kind of precision, emulate, write."""
    path = folder / "model.onnx"
    model = normalise(onnx_file.read(path))
    onnx_file.digest(model)
    for precision in (Precision.FP16, Precision.INT8):
        plan = PrecisionPlan(precision)
        names = [n for q in quantizable(model, plan) for n in q.activations]
        lowered = lower(model, plan, dict.fromkeys(names, 1.0) if precision.quantized else None)
        onnx_file.write(emulate(lowered), folder / "emulated.onnx")


TARGETS: Mapping[str, Target] = {
    "spec": Target(_make_spec, _read_spec),
    "results": Target(_make_results, _read_results),
    "journal": Target(_make_journal, _read_journal),
    "npz": Target(_make_npz, _read_spec),
    "npy": Target(_make_npy, _read_npy),
    "onnx": Target(_make_onnx, _read_onnx),
}


def fresh(source: Path, folder: Path) -> Path:
    """`folder`, emptied and filled with what lies in `source`."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    return folder
