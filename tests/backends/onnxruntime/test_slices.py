"""Parts of a model compute what the whole computes, into memory that is used again."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest

from harness.backends.base import TensorInfo
from harness.backends.onnxruntime.backend import run_model
from harness.backends.onnxruntime.room import Room
from harness.backends.onnxruntime.slices import SliceOpener
from harness.errors import RunError

X = np.arange(4, dtype=np.float32)


def parsed(text: str) -> ir.Model:
    header = '<ir_version: 9, opset_import: ["" : 19]> g '
    return ir.serde.deserialize_model(onnx.parser.parse_model(header + text))


SPLIT = parsed("(float[4] x) => (float[2] y) { a, b = Split <axis = 0, num_outputs = 2> (x) y = Add (a, b) }")
CHOICE = parsed(
    """
    (float[4] x, bool p) => (float[4] y) {
        a = Abs (x)
        y = If (p) <
            then_branch = then () => (float[4] t) { t = Neg (a) },
            else_branch = other () => (float[4] e) { e = Identity (x) }
        >
    }
    """
)
KINDS = parsed(
    """
    (float[N] x) => (float[N] y) {
        y = Neg (x)
        half = Cast <to = 10> (x)
        brain = Cast <to = 16> (x)
        double = Cast <to = 11> (x)
        truth = Cast <to = 9> (x)
        whole = Cast <to = 7> (x)
        byte = Cast <to = 2> (x)
        total = ReduceSum <keepdims = 0> (x)
        places = NonZero (x)
    }
    """
)


class TestParts:
    def test_a_given_tensor_is_computed_again_where_its_node_is_needed(self) -> None:
        with SliceOpener(SPLIT)(["y"], {"a": X[:2] + 9}) as engine:
            assert [info.name for info in engine.inputs] == ["x"]
            assert engine.run({"x": X})["y"].tolist() == [2.0, 4.0]
        with SliceOpener(SPLIT)(["y"], {"a": X[:2] + 9, "b": X[2:]}) as engine:
            assert engine.run({"x": X, "a": X[:2] + 9, "b": X[2:]})["y"].tolist() == [11.0, 13.0]

    def test_what_a_subgraph_reads_can_be_given(self) -> None:
        feeds = {"x": X, "p": np.array(True)}
        with SliceOpener(CHOICE)(["y"], {"a": X + 9}) as engine:
            assert engine.run({**feeds, "a": X + 9})["y"].tolist() == (-X - 9).tolist()
        with SliceOpener(CHOICE)(["y"]) as engine:
            assert engine.run(feeds)["y"].tolist() == (-X).tolist()

    def test_a_given_tensor_that_is_wanted_is_computed(self) -> None:
        with SliceOpener(CHOICE)(["a"], {"a": X + 9}) as engine:
            assert engine.run({"x": X, "p": np.array(True)})["a"].tolist() == X.tolist()

    def test_weights_go_with_the_parts_that_read_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("harness.backends.onnxruntime.weights.LARGE_BYTES", 0)
        two = parsed(
            "(float[2] x) => (float[2] y) <float[2] v = {1, 2}, float[2] w = {3, 4}>"
            "{ a = Add (x, v) y = Mul (a, w) }"
        )
        opener, x = SliceOpener(two), X[:2]
        assert set(opener.parts.between({"a": x}, ["y"]).weights) == {"w"}
        with opener(["y"], {"a": x}) as engine:
            assert engine.run({"x": x, "a": x})["y"].tolist() == [0.0, 4.0]

    def test_a_tensor_that_is_not_there_is_an_error(self) -> None:
        with pytest.raises(RunError, match="no tensor named 'nope'"):
            SliceOpener(SPLIT)(["nope"])


class TestPlacedOutputs:
    @pytest.mark.parametrize("size", [5, 0])
    def test_every_kind_is_the_same_as_without_a_room(self, size: int) -> None:
        names = [value.name or "" for node in KINDS.graph for value in node.outputs]
        feeds = {"x": np.linspace(0, 3, size, dtype=np.float32)}
        expected = run_model(KINDS, feeds, names)
        shapes = {name: array.shape for name, array in expected.items() if name != "places"}
        with SliceOpener(KINDS)(names, {}, shapes) as engine:
            found = engine.run(feeds)
        assert list(found) == names
        for name in names:
            assert found[name].dtype == expected[name].dtype
            np.testing.assert_array_equal(found[name], expected[name], strict=True)

    @pytest.mark.parametrize("shape", [(3,), (5,), (2, 2), (4, 1), ()])
    def test_another_shape_than_foretold_changes_nothing(
        self, shape: tuple[int, ...], capfd: pytest.CaptureFixture[str]
    ) -> None:
        with SliceOpener(KINDS)(["y", "half"], {}, {"y": shape, "half": (4,)}) as engine:
            found = engine.run({"x": X})
        assert found["y"].tolist() == (-X).tolist()
        assert found["half"].tolist() == X.tolist()
        assert capfd.readouterr().err == ""

    def test_no_memory_for_a_room_changes_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object) -> None:
            raise OSError("Cannot allocate memory")

        monkeypatch.setattr("harness.backends.onnxruntime.room.mmap.mmap", full)
        with SliceOpener(SPLIT)(["y"], {}, {"y": (2,)}) as engine:
            assert engine.run({"x": X})["y"].tolist() == [2.0, 4.0]

    def test_the_next_run_writes_into_the_same_memory(self) -> None:
        opener, shapes = SliceOpener(SPLIT), {"a": (2,), "b": (2,), "y": (2,)}
        with opener(["a", "b"], {}, shapes) as engine:
            first = engine.run({"x": X})
        with opener(["y"], {}, shapes) as engine:
            second = engine.run({"x": X})
        assert np.shares_memory(first["a"], second["y"])
        assert second["y"].tolist() == [2.0, 4.0]

    def test_without_shapes_every_run_has_memory_of_its_own(self) -> None:
        with SliceOpener(SPLIT)(["y"]) as engine:
            first, second = (engine.run({"x": X})["y"] for _ in range(2))
        assert not np.shares_memory(first, second)

    def test_wrong_feeds_and_closed_engines_are_errors(self) -> None:
        engine: Any = SliceOpener(SPLIT)(["y"], {}, {"y": (2,)})
        with pytest.raises(RunError, match="fed were"):
            engine.run({})
        with pytest.raises(RunError, match="float32, fed was float64"):
            engine.run({"x": X.astype(np.float64)})
        engine.close()
        with pytest.raises(RunError, match="closed"):
            engine.run({"x": X})


class TestRoom:
    def test_arrays_lie_apart_and_aligned(self) -> None:
        infos = [
            TensorInfo("a", "float32", (3,)),
            TensorInfo("b", "bfloat16", (2, 2)),
            TensorInfo("c", "bool", ()),
        ]
        found = Room().arrays(infos, {"a": (3,), "b": (2, 2), "c": ()})
        assert {name: array.shape for name, array in found.items()} == {"a": (3,), "b": (2, 2), "c": ()}
        assert found["b"].dtype == ml_dtypes.bfloat16
        assert all(array.ctypes.data % 64 == 0 for array in found.values())
        assert not np.shares_memory(found["a"], found["b"])

    def test_it_keeps_its_memory_until_more_is_asked_for(self) -> None:
        room, info = Room(), [TensorInfo("a", "float32", (None,))]
        sizes = {size: room.arrays(info, {"a": (size,)})["a"] for size in (1000, 10, 1050)}
        assert np.shares_memory(sizes[1000], sizes[10])
        assert np.shares_memory(sizes[1000], sizes[1050])
        assert not np.shares_memory(sizes[1000], room.arrays(info, {"a": (5000,)})["a"])
