"""Range pre-flight: what overflows or vanishes is named, what does not is not."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from harness.backends.choose import create
from harness.engines.subject import Subject
from harness.errors import RunError
from harness.graph import file as onnx_file
from harness.lowering.lower import lower
from harness.lowering.passes.normalise import normalise
from harness.precision import Precision, PrecisionPlan
from harness.spec.file import read_spec
from harness.storage.cache import Cache
from harness.verdict.range_report import RangeReport
from harness.verdict.ranges import check_ranges, ranges_of
from tests.helpers.project import write_case

GRAPH = """
<ir_version: 10, opset_import: ["" : 19]>
g (float[N, 4] x) => (float[N, 4] y, float[N, 4] z) {
    [grow] big = Mul(x, scale)
    [shrink] back = Div(big, scale)
    [down] small = Mul(x, tiny)
    [up] up = Div(small, tiny)
    [join] y = Add(back, up)
    [mask] m = Add(x, far)
    [soft] z = Softmax(m)
}
"""


def model(scale: float = 1e5, tiny: float = 1e-6, far: float = 0.0) -> ir.Model:
    proto = onnx.parser.parse_model(GRAPH)
    for name, value in (("scale", scale), ("tiny", tiny), ("far", far)):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(value), name))
    return normalise(ir.from_proto(proto))


def report(found: ir.Model, precision: Precision = Precision.FP16, *kept: str, x: float = 2.0) -> RangeReport:
    plan = PrecisionPlan(precision, kept)
    return check_ranges(found, lower(found, plan), [{"x": np.full((2, 4), x, np.float32)}])


def names(extents) -> list[str]:
    return [one.tensor for one in extents]


def test_what_overflows_and_what_vanishes_is_named() -> None:
    found = report(model(scale=6e4))
    assert names(found.overflow) == ["big"]
    assert found.overflow[0].largest == pytest.approx(1.2e5)
    assert (found.overflow[0].node, found.overflow[0].op_type) == ("grow", "Mul")
    assert names(found.vanish) == ["small"]
    assert found.weights_vanish == ("tiny",)
    assert found.warnings == (
        "1 tensor overflows fp16 on this data: 'big' (Mul, |x| up to 1.2e+05)",
        "1 tensor vanishes in fp16 on this data: 'small' (Mul, |x| up to 2e-06)",
        "weights that vanish in fp16: 'tiny'",
    )


def test_a_model_within_range_has_no_warning() -> None:
    found = report(model(scale=2.0, tiny=0.5))
    assert found.warnings == ()
    assert found.feeds == 1


def test_a_kept_node_may_hold_what_no_lowered_node_reads() -> None:
    whole = report(model(scale=6e4), Precision.FP16, "grow", "shrink")
    assert not whole.overflow
    assert names(report(model(scale=6e4), Precision.FP16, "grow").overflow) == ["big"]


def test_a_weight_beyond_the_range_keeps_its_nodes_and_is_named() -> None:
    found = report(model(scale=1e5))
    assert found.weights_overflow == ("scale",)
    assert not found.overflow
    assert "whose nodes stay FP32: 'scale'" in "\n".join(found.warnings)


def test_masks_are_told_apart() -> None:
    found = report(model(scale=2.0, tiny=0.5), x=-1e35)
    assert found.warnings == (
        "7 tensors are masks and become infinite in fp16: 'x' (input, |x| up to 1e+35), "
        "'big' (Mul, |x| up to 2e+35), 'back' (Div, |x| up to 1e+35), 'small' (Mul, |x| up to 5e+34), "
        "'up' (Div, |x| up to 1e+35) and 2 more",
    )


def test_bf16_has_the_range_of_fp32() -> None:
    assert report(model(scale=6e4), Precision.BF16).overflow == ()


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.TF32])
def test_without_16_bits_nothing_is_run(precision: Precision) -> None:
    assert report(model(), precision) == RangeReport(str(precision))


def test_what_the_model_itself_holds_in_16_bits_is_not_looked_at() -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 19]>
    g (float16[4] h, float[4] x) => (float16[4] y, float[4] z) { y = Relu(h) [square] z = Mul(x, x) }
    """
    found = normalise(ir.from_proto(onnx.parser.parse_model(text)))
    feeds = {"h": np.ones(4, np.float16), "x": np.full(4, 300, np.float32)}
    ranges = check_ranges(found, lower(found, PrecisionPlan(Precision.FP16)), [feeds])
    assert names(ranges.overflow) == ["z"]


def test_infinities_of_the_model_itself_do_not_count() -> None:
    assert "x" not in names(report(model(scale=2.0, tiny=0.5), x=np.inf).overflow)


def test_the_largest_over_all_feeds_counts() -> None:
    found = model(scale=2.0, tiny=0.5)
    feeds = [{"x": np.full((1, 4), value, np.float32)} for value in (1.0, 4e4, 3.0)]
    assert names(check_ranges(found, lower(found, PrecisionPlan(Precision.FP16)), feeds).overflow) == [
        "big",
        "y",
    ]


def test_the_report_survives_json() -> None:
    found = report(model(scale=6e4))
    assert RangeReport.from_json(found.to_json()) == found


def test_a_subjects_report_comes_from_the_cache_the_second_time(tmp_path: Path, monkeypatch) -> None:
    spec = read_spec(write_case(tmp_path / "net", weight=np.eye(4, 2) * 4e4))

    def subject() -> Subject:
        return Subject(spec, create("onnxruntime"), Cache(tmp_path / "cache"))

    first = ranges_of(subject(), Precision.FP16)
    assert names(first.overflow) == ["h", "y"]
    monkeypatch.setattr("harness.verdict.ranges.check_ranges", lambda *_: pytest.fail("measured again"))
    assert ranges_of(subject(), Precision.FP16) == first
    assert ranges_of(subject(), Precision.INT8) == RangeReport("int8")


def test_a_model_that_does_not_run_is_a_warning(tmp_path: Path, monkeypatch) -> None:
    def crash(*_):
        raise RunError("it died of SIGSEGV")

    monkeypatch.setattr("harness.verdict.ranges.run_apart", crash)
    spec = read_spec(write_case(tmp_path / "net"))
    subject = Subject(spec, create("onnxruntime"), Cache(tmp_path / "cache"))
    assert ranges_of(subject, Precision.FP16).warnings == ("ranges are not known: it died of SIGSEGV",)


def test_tensors_in_subgraphs_are_counted() -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 19]>
    g (float[2] x, bool p) => (float[2] y) {
        y = If(p) <then_branch = t () => (float[2] u) { u = Exp(x) },
                   else_branch = e () => (float[2] v) { v = Neg(x) }>
    }
    """
    found = normalise(ir.from_proto(onnx.parser.parse_model(text)))
    feeds = [{"x": np.float32([1, 2]), "p": np.array(True)}]
    seen = check_ranges(found, lower(found, PrecisionPlan(Precision.FP16)), feeds)
    assert seen.unseen >= 2
    assert "tensors were not looked at, because subgraphs hold them" in seen.warnings[0]


def test_the_bundled_overflow_is_found_by_name() -> None:
    path = Path(__file__).parents[2] / "suites/models/overflow_transformer/model.onnx"
    found = normalise(onnx_file.read(path))
    feeds = [{"tokens": np.random.default_rng(1).integers(0, 256, (4, 32))}]
    overflow = check_ranges(found, lower(found, PrecisionPlan(Precision.FP16)), feeds).overflow
    assert {one.node for one in overflow} >= {
        "layer2/feed_forward/first/MatMul",
        "layer2/feed_forward/first/Add",
        "layer2/feed_forward/gelu/Mul",
    }
