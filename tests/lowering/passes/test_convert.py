"""Conversions compute what the file computes: generated models, and onnx's own tests of operators."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.engines.conversion import compared, shift
from harness.errors import ModelError
from harness.graph import file as onnx_file
from harness.lowering.passes.normalise import OPSET, normalise

SCALES = (
    (1, 1, 0.4, 1.7), (1, 1, 2, 2), (1, 1, 0.5, 0.5), (1, 1, 1.3, 0.9), (1, 1, 3, 1), (1, 1, 0.77, 0.77),
    (1, 1, 1, 0.3), (1, 1, 1, 1),
)  # fmt: skip
SAMPLING = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize")
ROUNDING = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
X = np.random.default_rng(0).normal(size=(1, 2, 7, 5)).astype(np.float32)
N = helper.make_node


def judged(model: onnx.ModelProto, folder: Path, *feeds: dict[str, Any]) -> tuple[str, str]:
    """What the conversion moves and what is not known, by `compared`."""
    file, made = folder / "file.onnx", folder / "made.onnx"
    file.write_bytes(model.SerializeToString())
    onnx_file.write(normalise(onnx_file.read(file)), made)
    return compared(file, made, feeds, [output.name for output in model.graph.output])


def resize(opset: int, scales: tuple[float, ...], given: str, **attributes: Any) -> onnx.ModelProto:
    """A Resize whose scales are `given` as a constant, as computed, or as sizes."""
    s = numpy_helper.from_array(np.array(scales, np.float32), "s0")
    roi = numpy_helper.from_array(np.array([0, 0, 0.1, 0.2, 1, 1, 0.8, 0.9], np.float32), "roi")
    size = numpy_helper.from_array(np.floor(np.array(scales) * X.shape).astype(np.int64), "size")
    none = numpy_helper.from_array(np.zeros(0, np.float32), "none")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in ("x", "y")]
    nodes = [N("Identity", ["s0"], ["s"])] if given == "computed" else []
    kind, source = ("Resize" if opset >= 10 else "Upsample"), ("s" if given == "computed" else "s0")
    inputs = ["x", source] if opset <= 10 else ["x", "roi", source]
    inputs = ["x", "roi", "none", "size"] if given == "sizes" else inputs
    nodes.append(N(kind, inputs, ["y"], "resize", **attributes))
    used = {name for node in nodes for name in node.input}
    weights = [tensor for tensor in (s, roi, size, none) if tensor.name in used]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def conventions(opset: int) -> Iterator[dict[str, Any]]:
    """Attributes of every convention that Resize has at `opset`."""
    if opset <= 10:
        yield from ({"mode": mode} for mode in ("nearest", "linear"))
        return
    for name in (*SAMPLING, *(("tf_half_pixel_for_nn",) if opset < 13 else ())):
        how = {"coordinate_transformation_mode": name}
        yield from ({**how, "mode": "nearest", "nearest_mode": rounding} for rounding in ROUNDING)
        yield from ({**how, "mode": "linear"}, {**how, "mode": "cubic", "cubic_coeff_a": -0.5})


@pytest.mark.parametrize("opset", [9, 10, *(pytest.param(k, marks=pytest.mark.slow) for k in (11, 13, 18))])
def test_every_convention_of_resize_stays(opset: int, tmp_path: Path) -> None:
    ways = ("constant", "computed") if opset <= 10 else ("constant", "sizes")
    known = 0
    every = SCALES if opset <= 10 else SCALES[:3]
    for scales, given, how in itertools.product(every, ways, list(conventions(opset))):
        moved, unknown = judged(resize(opset, scales, given, **how), tmp_path, {"x": X})
        assert not moved, (scales, given, how)
        known += not unknown
    assert known >= 10, "the runtime takes the files themselves"


def test_one_resize_stays_one_where_it_can(tmp_path: Path) -> None:
    for scales, count in (((1, 1, 2, 2), 1), ((1, 1, 0.5, 0.5), 1), ((1, 1, 0.4, 1.7), 2)):
        (tmp_path / "m.onnx").write_bytes(resize(10, scales, "constant", mode="nearest").SerializeToString())
        made = normalise(onnx_file.read(tmp_path / "m.onnx"))
        assert [node.op_type for node in made.graph].count("Resize") == count


@pytest.mark.parametrize("opset", [7, 10])
def test_a_mask_of_dropout_that_is_read_is_refused(opset: int, tmp_path: Path) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in ("x", "y")]
    dropout = N("Dropout", ["x"], ["d", "mask"], "dropout")
    reads = [N("Cast", ["mask"], ["m"], to=TensorProto.FLOAT), N("Add", ["d", "m"], ["y"])]
    for rest, message in ((reads, "Dropout 'dropout' would change"), ([N("Relu", ["d"], ["y"])], "")):
        graph = helper.make_graph([dropout, *rest], "g", values[:1], values[1:])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        if message:
            with pytest.raises(ModelError, match=message):
                judged(model, tmp_path)
        else:
            assert judged(model, tmp_path, {"x": np.ones((2, 3), np.float32)}) == ("", "")


@pytest.mark.slow
def test_onnx_own_models_of_operators_stay_or_are_refused(tmp_path: Path) -> None:
    """Each operator at each opset that changed it, on the data of onnx's backend tests."""
    counts = {"agree": 0, "refused": 0, "unknown": 0}
    for name, model, feeds in older_cases():
        try:
            moved, unknown = judged(model, tmp_path, feeds)
        except ModelError:
            counts["refused"] += 1
            continue
        assert not moved, name
        counts["unknown" if unknown else "agree"] += 1
    assert counts["agree"] > 200, counts
    assert counts["refused"] < 10, counts


def older_cases(most: int = 2) -> Iterator[tuple[str, onnx.ModelProto, dict[str, Any]]]:
    """`most` models of one operator at each of its versions from opset 7 on; those that are valid there."""
    from onnx.backend.test.case.node import collect_testcases

    versions: dict[str, set[int]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if not schema.domain and schema.since_version < OPSET:
            versions.setdefault(schema.name, set()).add(max(7, schema.since_version))
    taken: dict[tuple[str, int], int] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    for case in cases:
        nodes = case.model.graph.node
        plain = all(value.type.HasField("tensor_type") for value in case.model.graph.output)
        if len(nodes) != 1 or nodes[0].domain or not case.data_sets or not plain:
            continue
        for version in sorted(versions.get(nodes[0].op_type, ())):
            model = at(case.model, version)
            key = (nodes[0].op_type, version)
            if model is not None and taken.get(key, 0) < most and len(versions[key[0]]) > 1:
                taken[key] = taken.get(key, 0) + 1
                names = [value.name for value in model.graph.input]
                arrays = [array_of(given) for given in case.data_sets[0][0]]
                if all(array is not None for array in arrays):
                    yield f"{case.name} {version}", model, dict(zip(names, arrays, strict=False))


def array_of(given: Any) -> Any:
    """An array, whatever form the case has it in; None for sequences and optionals."""
    if isinstance(given, TensorProto):
        return numpy_helper.to_array(given)
    return np.asarray(given) if isinstance(given, (np.ndarray, np.generic)) else None


def at(model: onnx.ModelProto, version: int) -> onnx.ModelProto | None:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.opset_import[:]
    copy.opset_import.add(version=version)
    copy.ir_version = 8
    try:
        onnx.checker.check_model(copy)
    except (onnx.checker.ValidationError, RuntimeError):
        return None
    return copy


@pytest.mark.parametrize(
    ("was", "now", "moves"),
    [
        ([1.0, 2.0], [1.0, 2.0], False),
        ([1.0, 2.0], [1.0, 2.0 + 1e-6], False),
        ([1.0, 2.0], [1.0, 2.1], True),
        ([1.0, np.nan], [1.0, np.nan], False),
        ([1.0, np.nan], [1.0, 2.0], True),
        ([1.0, 2.0], [np.inf, 2.0], True),
        ([1.0, 2.0], [1.0, 2.0, 3.0], True),
    ],
)
def test_what_counts_as_moved(was: list[float], now: list[float], moves: bool) -> None:
    assert (shift(np.array(was, np.float32), np.array(now, np.float32)) > 1) == moves


def test_one_element_of_a_million_counts() -> None:
    was = np.ones(10**6, np.float32)
    now = was.copy()
    now[17] = 1.01
    assert shift(was, now) > 1
    assert shift(was.astype(np.int64), now.astype(np.int32)) > 1
