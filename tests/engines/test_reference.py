"""The reference is run once, kept, checked, and knows its own error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.backends.onnxruntime.backend import run_model
from harness.comparison.compare import compare_outputs
from harness.engines.reference import Reference, Source, feeds_digest, mre
from harness.errors import DataError, LoweringError
from harness.lowering.passes.double import to_double
from harness.precision import Precision
from harness.spec.terms import Terms
from harness.storage.cache import Cache
from tests.helpers.lowering import model, raw

RNG = np.random.default_rng(0)
WEIGHTS = {"w": RNG.normal(size=(8, 4)).astype(np.float32)}
FEEDS = {"x": RNG.normal(size=(3, 8)).astype(np.float32)}
LINEAR = "g (float[N,8] x) => (float[N,4] y, float[N,4] z) { [a] y = MatMul(x, w) [b] z = Relu(y) }"


class Opened:
    """Counts how often a model was asked for."""

    def __init__(self, made: ir.Model) -> None:
        self.model, self.count = made, 0

    def __call__(self) -> ir.Model:
        self.count += 1
        return self.model


def reference_of(cache: Path, made: ir.Model, names: tuple[str, ...], **key: Any) -> tuple[Reference, Opened]:
    opened = Opened(made)
    return Reference(Source("net reference", {"model": "1", **key}, opened, names), Cache(cache)), opened


@pytest.fixture(scope="module")
def linear() -> ir.Model:
    return model(LINEAR, **WEIGHTS)


class TestOutputs:
    def test_are_those_of_the_model(self, linear: ir.Model, tmp_path: Path) -> None:
        found = reference_of(tmp_path, linear, ("y", "z"))[0].outputs(FEEDS)
        assert list(found) == ["y", "z"]
        np.testing.assert_allclose(found["y"], FEEDS["x"] @ WEIGHTS["w"], rtol=1e-4, atol=1e-5)

    def test_are_run_once_and_bit_equal_from_disk(self, linear: ir.Model, tmp_path: Path) -> None:
        first, opened = reference_of(tmp_path, linear, ("y",))
        again, other = reference_of(tmp_path, linear, ("y",))
        np.testing.assert_array_equal(first.outputs(FEEDS)["y"], again.outputs(FEEDS)["y"])
        assert (opened.count, other.count) == (1, 0)
        assert again.entry(FEEDS).reason == "hit"

    def test_ignored_outputs_are_not_kept(self, linear: ir.Model, tmp_path: Path) -> None:
        assert set(reference_of(tmp_path, linear, ("z",))[0].outputs(FEEDS)) == {"z"}

    def test_other_feeds_are_run(self, linear: ir.Model, tmp_path: Path) -> None:
        reference, _ = reference_of(tmp_path, linear, ("y",))
        first, second = reference.outputs(FEEDS), reference.outputs({"x": FEEDS["x"] + 1})
        assert not np.array_equal(first["y"], second["y"])

    def test_another_model_is_run_and_the_reason_told(self, linear: ir.Model, tmp_path: Path) -> None:
        reference_of(tmp_path, linear, ("y",))[0].outputs(FEEDS)
        other, opened = reference_of(tmp_path, linear, ("y",), model="2")
        assert other.entry(FEEDS).reason == "stale: model changed"
        assert opened.count == 1

    def test_a_damaged_file_is_made_again(self, linear: ir.Model, tmp_path: Path) -> None:
        reference, _ = reference_of(tmp_path, linear, ("y",))
        entry = reference.entry(FEEDS)
        expected = np.array(reference.outputs(FEEDS)["y"])
        (entry.folder / "0.npy").write_bytes(b"\x93NUMPY")
        assert reference.entry(FEEDS).reason.startswith("damaged: '0.npy'")
        np.testing.assert_array_equal(reference.outputs(FEEDS)["y"], expected)

    def test_large_outputs_are_mapped_not_loaded(self, tmp_path: Path) -> None:
        wide = model("g (float[N] x) => (float[N] y) { [n] y = Neg(x) }")
        found = reference_of(tmp_path, wide, ("y",))[0].outputs({"x": np.ones(100_000, np.float32)})
        assert isinstance(found["y"], np.memmap)

    @pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3)])
    def test_scalars_and_empty_outputs(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        dims = ",".join(map(str, shape))
        kind = f"float[{dims}]" if shape else "float"
        net = model(f"g ({kind} x) => ({kind} y) {{ [n] y = Neg(x) }}")
        found = reference_of(tmp_path, net, ("y",))[0].outputs({"x": np.ones(shape, np.float32)})
        assert found["y"].shape == shape

    def test_bfloat16_and_integers_keep_their_types(self, tmp_path: Path) -> None:
        net = raw(
            "g (float[N] x) => (bfloat16[N] y, int64[N] i) { y = Cast<to = 16>(x) i = Cast<to = 7>(x) }"
        )
        found = reference_of(tmp_path, net, ("y", "i"))[0].outputs({"x": np.array([1.5, -2], np.float32)})
        assert found["y"].dtype == ml_dtypes.bfloat16
        assert found["y"].tolist() == [1.5, -2.0]
        assert found["i"].tolist() == [1, -2]

    @pytest.mark.parametrize(
        ("value", "said"), [(np.nan, "3 NaN and 0 infinite of 3"), (np.inf, "0 NaN and 3 infinite of 3")]
    )
    def test_a_value_that_is_not_finite_is_one_line_that_names_the_output(
        self, tmp_path: Path, value: float, said: str
    ) -> None:
        text = "[s] s = Shape(x) [e] good = ConstantOfShape(s) [n] bad = Neg(x)"
        net = model(f"g (float[N] x) => (float[N] good, float[N] bad) {{ {text} }}")
        reference = reference_of(tmp_path, net, ("good", "bad"))[0]
        with pytest.raises(DataError) as caught:
            reference.outputs({"x": np.full(3, value, np.float32)})
        assert f"net reference: output 'bad' has {said} elements in FP32" in str(caught.value)
        assert "nothing to compare with at x=3; " in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_single_values_that_are_not_finite_are_places_to_compare(self, tmp_path: Path) -> None:
        net = model("g (float[N] x) => (float[N] y) { y = Neg(x) }")
        reference = reference_of(tmp_path, net, ("y",))[0]
        masked = {"x": np.array([1, np.inf, np.nan], np.float32)}
        right = reference.outputs(masked)
        assert np.array_equal(right["y"], [-1, -np.inf, np.nan], equal_nan=True)
        assert reference.floor(masked)["y"].mre < 1e-6
        terms = Terms.of(Precision.FP16)
        assert compare_outputs({"y": np.array([-1, -np.inf, np.nan])}, right, terms).quality
        for wrong in ([-1, -9e9, np.nan], [-1, -np.inf, 0], [-1, np.inf, np.nan], [-np.inf, -1, np.nan]):
            assert not compare_outputs({"y": np.array(wrong)}, right, terms).quality

    def test_close_frees_the_session_and_more_feeds_open_it_again(
        self, linear: ir.Model, tmp_path: Path
    ) -> None:
        reference, opened = reference_of(tmp_path, linear, ("y",))
        reference.outputs(FEEDS)
        reference.outputs({"x": FEEDS["x"] * 2})
        assert opened.count == 1
        reference.close()
        reference.outputs({"x": FEEDS["x"] * 3})
        assert opened.count == 2


class TestFloor:
    def test_both_readings_are_measured(self, linear: ir.Model, tmp_path: Path) -> None:
        floor = reference_of(tmp_path, linear, ("y",))[0].floor(FEEDS)["y"]
        assert floor.optimised < 1e-6
        assert floor.float64 is not None
        assert 1e-9 < floor.float64 < 1e-6
        assert floor.mre == max(floor.optimised, floor.float64)
        assert floor.reason == ""

    def test_float64_finds_a_reference_that_is_wrong(self, tmp_path: Path) -> None:
        """Catastrophic cancellation: FP32 loses what float64 keeps."""
        net = model("g (float[N] x) => (float[N] y) { [p] a = Add(x, big) [m] y = Sub(a, big) }",
                    big=np.array([1e6], np.float32))  # fmt: skip
        feeds = {"x": np.linspace(0.1, 0.2, 7, dtype=np.float32)}
        floor = reference_of(tmp_path, net, ("y",))[0].floor(feeds)["y"]
        assert floor.float64 is not None
        assert floor.float64 > 1e-2

    def test_is_kept_on_disk(self, linear: ir.Model, tmp_path: Path) -> None:
        first = reference_of(tmp_path, linear, ("y", "z"))[0].floor(FEEDS)
        again, opened = reference_of(tmp_path, linear, ("y", "z"))
        assert again.floor(FEEDS) == first
        assert opened.count == 0

    def test_sessions_are_opened_once_for_all_feeds(self, linear: ir.Model, tmp_path: Path) -> None:
        reference, opened = reference_of(tmp_path, linear, ("y",))
        for factor in (1, 2, 3):
            reference.floor({"x": FEEDS["x"] * factor})
        assert opened.count == 3  # unoptimised, optimised, float64
        reference.close()
        assert reference.floor({"x": FEEDS["x"] * 4})["y"].float64 is not None

    def test_says_why_there_is_no_float64(self, tmp_path: Path) -> None:
        net = model("g (float[N,1,4,4] x) => (float[N,1,3,3] y) { [c] y = Conv(x, w) }",
                    w=np.ones((1, 1, 2, 2), np.float32))  # fmt: skip
        floor = reference_of(tmp_path, net, ("y",))[0].floor({"x": np.ones((1, 1, 4, 4), np.float32)})["y"]
        assert floor.float64 is None
        assert "implementation for Conv" in floor.reason
        assert floor.mre == floor.optimised

    @pytest.mark.parametrize("op", ["GRU", "LSTM", "RNN"])
    def test_recurrent_nodes_are_told_of_once_and_nothing_is_printed(
        self, op: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """Their kernels say that they take float64, and print that they do not when they run."""
        gates = {"GRU": 12, "LSTM": 16, "RNN": 4}[op]
        net = model(
            "g (float[N,1,2] x) => (float[N,1,1,4] y, float[1,1,4] h) "
            f"{{ [r] y, h = {op}<hidden_size = 4>(x, w, r) }}",
            w=np.ones((1, gates, 2), np.float32),
            r=np.ones((1, gates, 4), np.float32),
        )
        found = reference_of(tmp_path, net, ("y", "h"))[0].floor({"x": np.ones((3, 1, 2), np.float32)})
        reasons = [floor.reason for floor in found.values()]
        assert reasons == [f"not evaluated in float64: node 'r': {op} has no float64 kernel", ""]
        assert capfd.readouterr().err == ""

    def test_a_kernel_that_fails_when_it_runs_is_asked_once_and_quietly(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("harness.lowering.passes.double.RECURRENT", frozenset())
        net = model(
            "g (float[N,1,2] x) => (float[N,1,1,4] y) { [r] y = GRU<hidden_size = 4>(x, w, r) }",
            w=np.ones((1, 12, 2), np.float32),
            r=np.ones((1, 12, 4), np.float32),
        )
        reference, opened = reference_of(tmp_path, net, ("y",))
        for factor in (1, 2):
            found = reference.floor({"x": np.full((3, 1, 2), factor, np.float32)})["y"]
            assert "does not support double" in found.reason
        assert opened.count == 3  # unoptimised, optimised, float64
        assert capfd.readouterr().err == ""


class TestDouble:
    def test_every_float_is_double(self, linear: ir.Model) -> None:
        found = run_model(to_double(linear), {"x": FEEDS["x"].astype(np.float64)})
        exact = FEEDS["x"].astype(np.float64) @ WEIGHTS["w"].astype(np.float64)
        np.testing.assert_allclose(found["y"], exact, rtol=1e-12)

    def test_the_model_itself_is_left_as_it_was(self, linear: ir.Model) -> None:
        to_double(linear)
        assert run_model(linear, FEEDS)["y"].dtype == np.float32

    def test_casts_constants_and_subgraphs(self) -> None:
        net = model(
            """g (int64[N] x, bool c) => (float[N] y) {
              [a] a = Cast<to = 1>(x)
              [s] s = Shape(a)
              [z] z = ConstantOfShape(s)
              [i] b = If (c) <
                then_branch = t () => (float[N] t) {
                  [k] k = Constant<value_float = 0.1>()
                  [ta] t = Add(a, k) },
                else_branch = e () => (float[N] e) { [en] e = Neg(a) }>
              [y] y = Add(b, z)
            }"""
        )
        found = run_model(to_double(net), {"x": np.array([1, 2]), "c": np.array(True)})["y"]
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, [1.1, 2.1], rtol=1e-7)

    def test_inputs_that_must_be_float_get_a_cast(self) -> None:
        net = model("g (float[1,1,2,2] x) => (float[1,1,4,4] y) { [r] y = Resize(x, , scales) }",
                    scales=np.array([1, 1, 2, 2], np.float32))  # fmt: skip
        wide = to_double(net)
        (resize,) = (node for node in wide.graph if node.op_type == "Resize")
        assert resize.inputs[2] is not None
        assert resize.inputs[2].dtype == ir.DataType.FLOAT
        assert resize.inputs[0] is not None
        assert resize.inputs[0].dtype == ir.DataType.DOUBLE

    def test_an_operator_without_a_double_result_is_refused(self) -> None:
        net = model("g (uint8[N] x) => (float[N] y) { [d] y = DequantizeLinear(x, s) }",
                    s=np.array(0.5, np.float32))  # fmt: skip
        with pytest.raises(LoweringError, match="'d': DequantizeLinear has no float64 result"):
            to_double(net)

    def test_an_operator_of_another_domain_is_refused(self) -> None:
        net = raw("g (float[N] x) => (float[N] y) { [c] y = custom.Nope(x) }")
        with pytest.raises(LoweringError, match=r"custom\.Nope is no standard operator"):
            to_double(net)


class TestMre:
    def test_is_the_ratio_of_sums(self) -> None:
        assert mre(np.array([1.0, 2.5]), np.array([1.0, 2.0])) == pytest.approx(0.5 / 3)

    def test_integers_count_unequal_elements(self) -> None:
        assert mre(np.array([1, 2, 3, 9]), np.array([1, 2, 3, 4])) == 0.25

    def test_another_shape_is_infinitely_wrong(self) -> None:
        assert mre(np.ones((2, 1)), np.ones(2)) == float("inf")

    def test_an_all_zero_reference_takes_no_error(self) -> None:
        assert mre(np.zeros(2), np.zeros(2)) == 0.0
        assert mre(np.ones(2), np.zeros(2)) == float("inf")

    def test_float16_does_not_overflow_in_the_sum(self) -> None:
        assert mre(np.full(100, 6e4, np.float16), np.full(100, 3e4, np.float16)) == pytest.approx(
            1.0, rel=1e-3
        )


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=8), st.integers(0, 7))
def test_the_digest_of_feeds_changes_with_every_value(values: list[float], index: int) -> None:
    array = np.array(values, np.float32)
    other = array.copy()
    other.view(np.uint32)[index % array.size] ^= 1
    assert feeds_digest({"x": array}) == feeds_digest({"x": array.copy()})
    assert feeds_digest({"x": array}) != feeds_digest({"x": other})


@pytest.mark.parametrize(
    "other",
    [
        {"y": np.zeros((2, 3), np.float32)},
        {"x": np.zeros((3, 2), np.float32)},
        {"x": np.zeros((2, 3), np.int32)},
        {"x": np.zeros((2, 3), np.float32), "y": np.zeros(0)},
    ],
)
def test_the_digest_of_feeds_changes_with_name_shape_and_dtype(other: Any) -> None:
    assert feeds_digest({"x": np.zeros((2, 3), np.float32)}) != feeds_digest(other)


def test_the_digest_does_not_see_memory_layout() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert feeds_digest({"x": array}) == feeds_digest({"x": np.asfortranarray(array)})
