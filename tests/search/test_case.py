"""`trt-harness search-fp32` on a model of its own: answer, engine, spec, state, mistakes."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import onnx.numpy_helper
import onnx.parser
import onnx_ir as ir
import pytest

from harness.cli import INTERRUPTED, main
from harness.comparison.compare import compare_outputs
from harness.comparison.severity import severity
from harness.latency.measure import Sampling
from harness.lowering.passes.normalise import normalise
from harness.precision import Precision, Tolerance
from harness.search.region import regions
from harness.search.result import Step
from harness.search.state import State
from harness.spec.file import read_spec
from harness.spec.terms import Terms

GRAPH = """
<ir_version: 10, opset_import: ["" : 19]>
g (float[N, 8] x) => (float[N, 8] y) {
    [first] a = MatMul(x, w)
    [act] b = Sigmoid(a)
    [up] c = Mul(b, big)
    [more] d = Mul(c, big)
    [down] e = Div(d, big)
    [back] f = Div(e, big)
    [second] y = MatMul(f, w)
}
"""
SPEC = """\
# Ours.
name = "own"
precisions = ["fp32", "fp16", "int8"]

[model]
onnx = "model.onnx"

[inputs.x]
dtype = "float32"
data = { generator = "normal", seed = 3 }

[[profiles]]
shapes.x = { min = [1, 8], opt = [2, 8], max = [4, 8] }

[precision.fp16]
fp32_op_types = ["Softmax"]  # kept
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    proto = onnx.parser.parse_model(GRAPH)
    weight = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    for name, array in (("w", weight), ("big", np.float32(600))):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    onnx.save(proto, tmp_path / "model.onnx")
    path = tmp_path / "spec.toml"
    path.write_text(SPEC.replace('fp32_op_types = ["Softmax"]', 'fp32_op_types = ["Sigmoid"]'))
    return path


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def run(spec: Path, *options: str) -> int:
    cache = str(spec.parent / "cache")
    shared = ["--backend", "onnxruntime", "--cache-dir", cache, "--no-latency"]
    return main(["search-fp32", str(spec), *shared, *options])


def test_the_answer_in_words(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(spec, "--precision", "fp16") == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("1 tensor overflows fp16 on this data: 'd' (Mul, |x| up to 3.6e+05)\n")
    lines = printed.out.splitlines()
    assert lines[0] == "own[fp16]: 2 of 6 nodes must stay FP32"
    assert lines[1:4] == ["    more", "    down", "  op types: 1 Mul, 1 Div"]
    assert lines[4] == "  region: 2 nodes from more to down"
    assert lines[5].startswith("  error (mre, or in proportion where a row or an element breaks its bound")
    assert "inf with none" in lines[5]
    assert lines[6].startswith("  the engine agrees at all 4 shapes: mre ")
    assert lines[7].startswith("  used: 4 evaluations")


def test_what_the_nodes_cost(
    spec: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    brief = Sampling(rounds=1, min_per_round=1, max_samples=2, max_time_s=0.01, warmup_time_s=0.01)
    monkeypatch.setattr("harness.search.cost.SAMPLING", brief)
    cache = str(spec.parent / "cache")
    main(["search-fp32", str(spec), "--precision=fp16", "--backend=onnxruntime", "--cache-dir", cache])
    latency, fusions = capsys.readouterr().out.splitlines()[-2:]
    pattern = r"  latency \(p50, batch 2, CPU.*\): \S+ ms with these nodes FP32, \S+ ms without: [\d.]+ times"
    assert re.fullmatch(pattern, latency)
    assert re.fullmatch(r"  after fusion: \d+ nodes with these nodes FP32, \d+ without: .+", fusions)


def test_nothing_is_written_unless_asked(spec: Path) -> None:
    before = spec.read_text()
    run(spec, "--precision", "fp16")
    assert spec.read_text() == before


def test_apply_keeps_comments_and_makes_the_suite_pass(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(spec, "--precision", "fp16", "--apply") == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("fp32_nodes of fp16 written (2 nodes)")
    text = spec.read_text()
    assert text.startswith("# Ours.\n")
    assert "# kept" in text
    written = read_spec(spec).of(Precision.FP16)
    assert written.fp32_nodes == ("more", "down")
    assert written.fp32_op_types == ("Sigmoid",)


def test_a_model_that_passes_needs_no_nodes(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(spec, "--precision", "bf16") == 0
    assert "passes as it is; no node must stay FP32" in capsys.readouterr().out


def test_a_stopped_search_says_how_to_go_on_and_goes_on(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(spec, "--precision", "fp16", "--evaluations", "1") == 1
    out = capsys.readouterr().out
    assert "no passing set found yet" in out
    assert "the search ended early: its 1 evaluations are used; to go on from here: trt-harness " in out
    assert run(spec, "--precision", "fp16") == 0
    assert "1 remembered from an earlier search" in capsys.readouterr().out


def test_what_another_runtime_measured_is_not_remembered(
    spec: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(spec, "--precision", "fp16", "--evaluations", "1") == 1
    monkeypatch.setattr("onnxruntime.__version__", "99.0")
    assert run(spec, "--precision", "fp16") == 0
    assert "remembered" not in capsys.readouterr().out


def test_ctrl_c_keeps_what_was_found(
    spec: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.commands.search_fp32._tell", interrupt)
    assert run(spec, "--precision", "fp16") == 1
    assert "the search ended early: stopped by the user" in capsys.readouterr().out
    monkeypatch.undo()
    assert run(spec, "--precision", "fp16") == 0
    assert "1 remembered" in capsys.readouterr().out


def test_ctrl_c_while_the_engine_is_asked_says_how_to_go_on(
    spec: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.search.case._proposal", interrupt)
    assert run(spec, "--precision", "fp16", "--apply") == INTERRUPTED
    asked = capsys.readouterr().err.splitlines()[-2]
    assert asked.startswith(f"to go on from here: trt-harness search-fp32 {spec} --precision fp16")
    assert asked.endswith("--apply --no-latency")


def test_ctrl_c_while_the_cost_is_measured_keeps_the_nodes_written(
    spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.search.cost.latency_cost", interrupt)
    cache = str(spec.parent / "cache")
    shared = ["--backend", "onnxruntime", "--cache-dir", cache]
    assert main(["search-fp32", str(spec), *shared, "--precision", "fp16", "--apply"]) == INTERRUPTED
    assert read_spec(spec).of(Precision.FP16).fp32_nodes == ("more", "down")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--precision", "fp16", "--evaluations", "1"], "no set that passes was found yet"),
        (["--precision", "bf16"], "no node must stay FP32"),
    ],
)
def test_apply_says_why_it_leaves_the_spec(
    spec: Path, capsys: pytest.CaptureFixture[str], options: list[str], why: str
) -> None:
    before = spec.read_text()
    run(spec, *options, "--apply")
    assert capsys.readouterr().out.splitlines()[-1] == f"{spec} is left as it is: {why}"
    assert spec.read_text() == before


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--precision", "fp32"], "--precision = 'fp32': must be one of fp16, bf16, int8, int8+fp16"),
        (["--precision", "fp16", "--tolerance", "0"], "--tolerance = 0.0: must be > 0"),
        (["--precision", "fp16", "--tolerance", "nan"], "--tolerance = nan: must be > 0"),
        (["--precision", "fp16", "--evaluations", "0"], "--evaluations = 0: must be > 0"),
    ],
)
def test_mistakes_are_one_line_with_exit_code_4(
    spec: Path, capsys: pytest.CaptureFixture[str], options: list[str], line: str
) -> None:
    assert run(spec, *options) == 4
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"trt-harness: error: {line}")


def test_a_tolerance_that_nothing_reaches(
    spec: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.comparison.emulated_error.EmulatedError.of", lambda *_: 2e-3)
    assert run(spec, "--precision", "fp16", "--tolerance", "1e-3") == 4
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == (
        "trt-harness: error: own[fp16]: no set of FP32 nodes reaches 1.0e-03; with every node kept that can "
        "be, the error is 2.0e-03"
    )


def test_a_reference_that_is_not_finite(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = onnx.load(spec.parent / "model.onnx")
    model.graph.initializer[0].CopyFrom(
        onnx.numpy_helper.from_array(np.full((8, 8), np.inf, np.float32), "w")
    )
    onnx.save(model, spec.parent / "model.onnx")
    assert run(spec, "--precision", "fp16") == 4
    assert "of the FP32 reference is not finite" in capsys.readouterr().err


def test_a_model_file_cannot_be_applied_to(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(spec.parent / "model.onnx", "--precision", "fp16", "--apply") == 4
    assert "write a spec first: trt-harness init" in capsys.readouterr().err


class TestState:
    names = ("a", "b", "c")

    def opened(self, folder: Path, key: str = "k") -> State:
        return State.open(folder, {"key": key}, self.names)

    def test_remembers(self, tmp_path: Path) -> None:
        state = self.opened(tmp_path)
        state.remember(Step(1, "prefix", frozenset("ac"), math.inf))
        state.remember(Step(2, "prefix", frozenset(), 0.1 + 0.2))
        assert self.opened(tmp_path).errors == {frozenset("ac"): math.inf, frozenset(): 0.1 + 0.2}

    def test_another_key_is_another_search(self, tmp_path: Path) -> None:
        self.opened(tmp_path).remember(Step(1, "prefix", frozenset("a"), 1.0))
        assert self.opened(tmp_path, "other").errors == {}

    @pytest.mark.parametrize("text", ["", "[[[0], ", "{}x", "[[[9], 1.0]]", '[[[0], "x"]]', "[1]"])
    def test_a_damaged_file_starts_afresh_and_is_told(self, tmp_path: Path, text: str) -> None:
        state = self.opened(tmp_path)
        state.remember(Step(1, "prefix", frozenset("a"), 1.0))
        state.path.write_text(text)
        again = self.opened(tmp_path)
        assert again.errors == {}
        assert "starts afresh" in again.trouble

    def test_a_folder_that_cannot_be_written_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        state = State(tmp_path / "file" / "state.json", self.names)
        state.remember(Step(1, "prefix", frozenset("a"), 1.0))
        assert state.errors == {frozenset("a"): 1.0}
        assert "cannot be continued later" in state.trouble


def test_regions_look_through_nodes_that_move_values() -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 19]>
    g (float[2, 3] x) => (float[2, 3] y) {
        [a] p = Exp(x)
        [t] q = Transpose(p)
        [u] r = Transpose(q)
        [b] s = Log(r)
        [c] v = Neg(s)
        [d] y = Abs(v)
    }
    """
    model = normalise(ir.from_proto(onnx.parser.parse_model(text)))
    assert regions(model, {"a", "b", "d"}) == (("a", "b"), ("d",))
    assert regions(model, {"d", "c"}) == (("c", "d"),)
    assert regions(model, set()) == ()


class TestSeverity:
    limit = Tolerance(1e-3, 5e-3)
    expected = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)

    def of(self, actual: np.ndarray) -> float:
        found = compare_outputs({"y": actual}, {"y": self.expected}, Terms(Precision.FP16, self.limit))
        assert (severity(found) <= self.limit.limit) == found.quality
        return severity(found)

    def test_within_bounds_it_is_the_mre(self) -> None:
        assert self.of(self.expected * np.float32(1.002)) == pytest.approx(2e-3, rel=1e-3)

    def test_one_wrong_row_counts_though_the_mean_is_small(self) -> None:
        actual = self.expected.copy()
        actual[5] *= 1.2
        assert self.of(actual) > self.limit.limit

    def test_one_wrong_element_counts(self) -> None:
        actual = self.expected.copy()
        actual[5, 7] += 3
        assert self.of(actual) > self.limit.limit

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_what_is_not_finite_is_infinite(self, value: float) -> None:
        actual = self.expected.copy()
        actual[0, 0] = value
        assert self.of(actual) == math.inf
