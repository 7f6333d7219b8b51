"""Real builds with TensorRT-RTX, which needs no GPU for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from harness.backends.base import BuildRequest
from harness.backends.cuda.device import DeviceInfo
from harness.backends.tensorrt.audit.record import PLAN, read_layers, read_origin, read_task
from harness.backends.tensorrt.backend import TensorRTBackend
from harness.backends.tensorrt.bindings import Bindings
from harness.backends.tensorrt.builder.build import BuildTask, build
from harness.errors import BuildError, NotDeployableError, NotHonouredError, RunError
from harness.precision import Precision
from harness.spec.model_spec import BuildSpec, Profile, ShapeRange
from tests.helpers.lowering import model
from tests.helpers.tensorrt import LARGE, SMALL, classifier, request, rtx, write
from tests.helpers.trt_double import HostDevice

PLAIN = BuildTask(Precision.FP32, (SMALL,), BuildSpec())


@pytest.fixture(name="bindings")
def _bindings() -> Bindings:
    return rtx()


@pytest.fixture(name="backend")
def _backend(bindings: Bindings) -> TensorRTBackend:
    return TensorRTBackend(bindings.name, isolate=False)


@pytest.mark.parametrize("precision", [p for p in Precision if p is not Precision.TF32])
def test_every_precision_builds_and_shows_in_the_engine(
    backend: TensorRTBackend, tmp_path: Path, precision: Precision
) -> None:
    audit = backend.build(request(precision), tmp_path)
    assert audit.requested is precision
    assert not audit.problems
    assert (tmp_path / PLAN).stat().st_size > 1000
    words = {"fp32": "FP32", "fp16": "FP16", "bf16": "BF16", "int8": "INT8", "int8+fp16": "INT8"}
    assert any(words[precision] in key for key in audit.nodes)


def test_a_build_in_a_child_process_is_the_same(bindings: Bindings, tmp_path: Path) -> None:
    audit = TensorRTBackend(bindings.name).build(request(Precision.FP16), tmp_path)
    assert not audit.problems
    assert (tmp_path / PLAN).is_file()


@pytest.mark.parametrize("kept", ["fc", "conv"])
@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16, Precision.INT8, Precision.INT8_FP16])
def test_kept_products_have_fp32_operands_in_network_and_engine(
    backend: TensorRTBackend, tmp_path: Path, precision: Precision, kept: str
) -> None:
    audit = backend.build(request(precision, (kept,)), tmp_path)
    assert not audit.problems
    assert audit.fp32_kept == (kept,)
    network, engine = read_layers(tmp_path)
    assert {t.dtype for layer in network if layer.node == kept for t in layer.outputs} == {"FLOAT"}
    (weights,) = {c.dtype for layer in engine if kept in layer.nodes for c in layer.constants if c.count > 1}
    assert weights == "FP32"


PRODUCTS = {
    "MatMul": "g (float[N, 8] x) => (float[N, 8] y) { a = Relu (x) [kept] b = MatMul (a, w) y = Tanh (b) }",
    "Einsum": """g (float[N, 8] x) => (float[N, 8] y)
        { a = Relu (x) [kept] b = Einsum <equation = "ij,jk->ik"> (a, w) y = Tanh (b) }""",
    "Gemm": "g (float[N, 8] x) => (float[N, 8] y) { a = Relu (x) [kept] b = Gemm (a, w) y = Tanh (b) }",
    "Conv": "g (float[N, 8, 4] x) => (float[N, 8, 4] y) { a = Relu (x) [kept] b = Conv (a, k) y = Tanh (b) }",
    "ConvTranspose": """g (float[N, 8, 4] x) => (float[N, 8, 4] y)
        { a = Relu (x) [kept] b = ConvTranspose (a, k) y = Tanh (b) }""",
}


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16])
@pytest.mark.parametrize("op_type", PRODUCTS)
def test_a_product_alone_between_casts_keeps_weights_that_16_bits_cannot_hold(
    backend: TensorRTBackend, tmp_path: Path, op_type: str, precision: Precision
) -> None:
    weights = 1e6 * np.random.default_rng(0).normal(size=(8, 8, 1)).astype(np.float32)
    conv = op_type.startswith("Conv")
    given = {"k": weights} if conv else {"w": weights[:, :, 0]}
    size = (8, 4) if conv else (8,)
    profile = Profile(shapes={"x": ShapeRange(min=(1, *size), opt=(2, *size), max=(4, *size))})
    source = model(PRODUCTS[op_type], **given)
    audit = backend.build(request(precision, ("kept",), (profile,), source), tmp_path)
    assert not audit.problems
    _, engine = read_layers(tmp_path)
    found = {c.dtype for layer in engine if "kept" in layer.nodes for c in layer.constants if c.count > 1}
    assert found == {"FP32"}


BESIDE_RELU = {
    "Scan": """g (float[2,4] x) => (float[2,4] r, float[4] y, float[2,4] z) {
      [relu] r = Relu(x) y, z = Scan <num_scan_inputs = 1,
        body = b (float[4] s, float[4] e) => (float[4] t, float[4] o) { t = Add(s, e) o = Tanh(t) }
      > (w, x) }""",
    "If": """g (float[2,4] x) => (float[2,4] y, int64[2] z) {
      [relu] r = Relu(x) m = ReduceMax <keepdims = 0> (r) c = Less(m, m) y, z = If (c) <
        then_branch = t () => (float[2,4] p, int64[2] q) { p = Tanh(r) q = Shape(r) },
        else_branch = e () => (float[2,4] u, int64[2] i) { u = Neg(r) i = Shape(r) }> }""",
    "Loop": """g (float[2,4] x) => (float[2,4] y, int64 z) {
      [relu] r = Relu(x) y, z = Loop (n, on, r, n) <
        body = b (int64 i, bool c, float[2,4] s, int64 j) => (bool d, float[2,4] t, int64 k) {
          d = Identity(c) t = Mul(s, w) k = Add(j, i) }> }""",
    "ConvTranspose": """g (float[1,2,4] x) => (float[1,2,5] y) {
      [relu] r = Relu(x) y = ConvTranspose(r, v) }""",
    "TensorScatter": """g (float[1,1,4,2] cache, float[1,1,1,2] x) => (float[1,1,4,2] y) {
      [relu] r = Relu(x) y = TensorScatter(cache, r) }""",
    "Celu": "g (float[2,4] x) => (float[2,4] y) { [relu] r = Relu(x) y = Celu(r) }",
}
OPSETS = {"TensorScatter": 24, "Celu": 28}
GIVEN = {
    "w": np.ones(4, np.float32),
    "v": np.ones((2, 2, 2), np.float32),
    "n": np.array(3),
    "on": np.array(True),
}


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16])
@pytest.mark.parametrize("op_type", BESIDE_RELU)
def test_what_builds_in_fp32_builds_beside_16_bits(
    backend: TensorRTBackend, tmp_path: Path, op_type: str, precision: Precision
) -> None:
    source = model(BESIDE_RELU[op_type], OPSETS.get(op_type, 19), **GIVEN)
    sizes = {value.name: tuple(value.shape.numpy()) for value in source.graph.inputs}
    profile = Profile(shapes={name: ShapeRange(min=s, opt=s, max=s) for name, s in sizes.items()})
    asked = request(precision, profiles=(profile,), source=source)
    assert "relu" in asked.lowered.summary.lowered
    assert not backend.build(asked, tmp_path).problems


def test_without_its_fence_a_kept_product_is_found_in_fp16(
    backend: TensorRTBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.backends.tensorrt.backend.fence", lambda model: model)
    audit = backend.build(request(Precision.FP16, ("fc",)), tmp_path)
    assert [p.split(":")[0] for p in audit.problems] == ["'fc'"]
    assert "FP16 in engine layer" in audit.problems[0]


def test_profiles_are_built_in_order(backend: TensorRTBackend, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, profiles in ((one, (SMALL,)), (two, (SMALL, LARGE))):
        folder.mkdir()
        backend.build(request(Precision.FP32, profiles=profiles), folder)
    assert [p.name for p in read_task(two).profiles] == ["small", "large"]
    assert (two / PLAN).stat().st_size > 1.5 * (one / PLAN).stat().st_size


def shapes(low: tuple[int, ...], high: tuple[int, ...], name: str = "x") -> Profile:
    return Profile(name="odd", shapes={name: ShapeRange(min=low, opt=low, max=high)})


@pytest.mark.parametrize(
    ("profile", "says"),
    [
        (
            shapes((1, 4, 8, 8), (1, 4, 8, 8)),
            r"shape \[1, 4, 8, 8\] does not fit the network's \[-1, 3, -1, -1\]",
        ),
        (shapes((1, 3, 8), (1, 3, 8)), "rank 3, but the network's input has rank 4"),
        (shapes((1, 3, 8, 8), (1, 3, 8, 8), "z"), "lacks"),
    ],
)
def test_a_profile_that_does_not_fit_is_refused(
    backend: TensorRTBackend, tmp_path: Path, profile: Profile, says: str
) -> None:
    with pytest.raises(BuildError, match=rf"cnn\[fp32\]: profile 'odd': .*{says}"):
        backend.build(request(Precision.FP32, profiles=(profile,)), tmp_path)


def test_an_unknown_input_in_a_profile_is_named(backend: TensorRTBackend, tmp_path: Path) -> None:
    both = Profile(name="p", shapes={**SMALL.shapes, "z": SMALL.shapes["x"]})
    with pytest.raises(BuildError, match=r"names no input of the network: \['z'\]"):
        backend.build(request(Precision.FP32, profiles=(both,)), tmp_path)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x08\x0a"])
def test_what_is_no_model_builds_nothing(bindings: Bindings, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(BuildError, match="parser"):
        build(bindings, PLAIN, path, tmp_path / PLAN)
    assert not (tmp_path / PLAN).exists()


def test_a_parser_error_names_node_and_operator(bindings: Bindings, tmp_path: Path) -> None:
    bad = model("g (float[N, 3, H, W] x) => (float[N, 3, H, W] y) { y = Relu (x) }")
    path = write(tmp_path, bad)
    proto = onnx.load(path)
    proto.graph.node[0].op_type, proto.graph.node[0].name = "NoSuchOperator", "odd one"
    onnx.save(proto, path)
    with pytest.raises(BuildError, match=r"node 'odd one' \(NoSuchOperator\)"):
        build(bindings, PLAIN, path, tmp_path / PLAN)


def test_the_builders_own_words_end_a_failed_build(bindings: Bindings, tmp_path: Path) -> None:
    task = BuildTask(Precision.FP32, (SMALL,), BuildSpec(workspace_bytes=1))
    with pytest.raises(BuildError, match=r"builds no engine: .*workspace"):
        build(bindings, task, write(tmp_path, classifier()), tmp_path / PLAN)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"typing": "weak"}, 'typing = "weak" uses flags and calibrators that are gone'),
        ({"version_compatible": True}, "lean runtime"),
        ({"hardware_compatibility": "ampere_plus"}, "hardware_compatibility is not supported"),
        ({"dla_core": 0}, "dla_core"),
        ({"memory_pools": {"dla_managed_sram": 1}}, "memory_pools"),
        ({"memory_pools": {"swimming": 1}}, "no such pool; it has .*workspace"),
        ({"calibration_cache": "x.cache"}, "calibration_cache goes with"),
        ({"compute_capabilities": ["9.0"]}, "compute_capabilities: 9.0: it builds for 7.5"),
        ({"compute_capabilities": ["8.9", "8.9"]}, "compute_capabilities: 8.9 stands there twice"),
    ],
)
def test_an_option_that_rtx_would_drop_is_refused(
    backend: TensorRTBackend, tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    asked = request(Precision.FP32, **options)
    assert says.split(".*")[0] in (backend.refusal(Precision.FP32, asked.options) or "")
    with pytest.raises(NotHonouredError, match=rf"cnn\[fp32\]: TensorRT-RTX .*{says}"):
        backend.build(asked, tmp_path)


def test_what_the_builder_clamps_is_an_error(bindings: Bindings, tmp_path: Path) -> None:
    over = BuildSpec.model_construct(**{**BuildSpec().model_dump(), "optimization_level": 9})
    with pytest.raises(NotHonouredError, match="optimization_level: asked for 9, the builder made it 5"):
        build(
            bindings,
            BuildTask(Precision.FP32, (SMALL,), over),
            write(tmp_path, classifier()),
            tmp_path / PLAN,
        )


def test_a_plugin_that_does_not_load_is_named(backend: TensorRTBackend, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"plugins: libmine\.so does not load"):
        backend.build(request(Precision.FP32, plugins=("libmine.so",)), tmp_path)


def test_what_tensorrt_refuses_is_said_before_building(backend: TensorRTBackend, tmp_path: Path) -> None:
    odd = model("g (float[N, 3, H, W] x) => (float[N, 3, H, W] y) { y = custom.Thing (x) }")
    with pytest.raises(NotDeployableError, match="Thing of domain 'custom' needs a plugin"):
        backend.build(request(Precision.FP32, source=odd), tmp_path)
    assert not list(tmp_path.iterdir())


def test_progress_of_a_child_process_is_told(bindings: Bindings, tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    backend = TensorRTBackend(bindings.name, progress=lambda *step: steps.append(step))
    backend.build(request(Precision.FP32), tmp_path)
    assert steps
    assert steps[0][0].startswith("Building engine")


def test_progress_is_told(bindings: Bindings, tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    backend = TensorRTBackend(bindings.name, isolate=False, progress=lambda *step: steps.append(step))
    backend.build(request(Precision.FP32), tmp_path)
    assert steps[0][0] == "Building engine"
    assert any(path.startswith("Building engine/") for path, _, _ in steps)
    assert all(0 <= done <= total for _, done, total in steps)


def test_intermediate_tensors_become_outputs(bindings: Bindings, tmp_path: Path) -> None:
    task = BuildTask(Precision.FP32, (SMALL,), BuildSpec(), outputs=("r", "m"))
    built = build(bindings, task, write(tmp_path, classifier()), tmp_path / PLAN)
    assert set(built.outputs) == {"y", "r", "m"}


def test_a_tensor_that_is_no_output_is_named(bindings: Bindings, tmp_path: Path) -> None:
    task = BuildTask(Precision.FP32, (SMALL,), BuildSpec(), outputs=("r", "nowhere"))
    with pytest.raises(BuildError, match=r"cannot be shown .*\['nowhere'\]"):
        build(bindings, task, write(tmp_path, classifier()), tmp_path / PLAN)


def test_shapes_and_bools_are_not_offered_and_the_rest_can_be_shown(
    backend: TensorRTBackend, bindings: Bindings, tmp_path: Path
) -> None:
    source = model(
        """g (float[N, 4] x) => (float[N, 4] y, float[N] z)
        { b = Greater (x, w) t = Where (b, x, w) y = Exp (t) n = Shape <end = 1> (x)
          s = ReduceSum (t, axes) z = Reshape (s, n) }""",
        w=np.zeros(4, np.float32),
        axes=np.array([1], np.int64),
    )
    profile = Profile(shapes={"x": ShapeRange(min=(1, 4), opt=(1, 4), max=(2, 4))})
    backend.build(request(Precision.FP32, profiles=(profile,), source=source), tmp_path)
    shown = backend.showable(tmp_path)
    assert {"t", "y", "s"} <= shown
    assert not {"b", "n"} & shown
    task = BuildTask(Precision.FP32, (profile,), BuildSpec(), outputs=tuple(sorted(shown - {"y", "z"})))
    assert "t" in build(bindings, task, tmp_path / "model.onnx", tmp_path / "again.plan").outputs


def test_odd_names_survive(backend: TensorRTBackend, tmp_path: Path) -> None:
    odd = model("g (float[N, 4] x) => (float[N, 4] y) { [a] t = Relu (x) [b] y = Exp (t) }")
    for node, name in zip(odd.graph, ('{"json": [1]}', "näme/:0"), strict=True):
        node.name = name
    odd.graph[0].outputs[0].name = "tensor:0/é"
    flat = Profile(shapes={"x": ShapeRange(min=(1, 4), opt=(1, 4), max=(2, 4))})
    audit = backend.build(request(Precision.FP16, ("näme/:0",), (flat,), odd), tmp_path)
    assert not audit.problems
    network, _ = read_layers(tmp_path)
    assert {'{"json": [1]}', "näme/:0"} <= {layer.node for layer in network}


def test_the_record_comes_back(backend: TensorRTBackend, tmp_path: Path) -> None:
    asked = request(Precision.FP16, ("fc",), (SMALL, LARGE), workspace_bytes=1 << 30)
    backend.build(asked, tmp_path)
    task = read_task(tmp_path)
    assert (task.precision, task.kept, task.profiles) == (Precision.FP16, ("fc",), (SMALL, LARGE))
    assert task.options == asked.options
    assert read_origin(tmp_path).backend == "tensorrt_rtx"


def test_a_damaged_record_is_a_run_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not the record of a TensorRT engine"):
        read_task(tmp_path)
    (tmp_path / "build.json").write_text(json.dumps({})[:1])
    with pytest.raises(RunError, match="not the record"):
        read_origin(tmp_path)


@pytest.mark.parametrize(("capability", "runs"), [("8.9", True), ("9.0", False)])
def test_a_gpu_that_rtx_does_not_serve_builds_and_does_not_run(
    bindings: Bindings, monkeypatch: pytest.MonkeyPatch, capability: str, runs: bool
) -> None:
    gpu = HostDevice()
    monkeypatch.setattr(gpu, "info", lambda: DeviceInfo("Some GPU", capability, "13.0"))
    monkeypatch.setattr("harness.backends.cuda.device.open_device", lambda *_: gpu)
    why = TensorRTBackend(bindings.name).can_run()
    assert (why is None) == runs
    assert runs or "compute capability 7.5, 8.0, 8.6, 8.9, 12.0, 12.1, not 9.0" in (why or "")
    assert gpu.closed == 2


def test_running_here_says_why_not(backend: TensorRTBackend, tmp_path: Path) -> None:
    if backend.can_run() is None:
        pytest.skip("this machine can run TensorRT-RTX engines")
    backend.build(request(Precision.FP32), tmp_path)
    with pytest.raises(RunError, match="cannot run here"):
        backend.load(tmp_path)


def test_an_output_stays_although_it_is_an_input(backend: TensorRTBackend, tmp_path: Path) -> None:
    passing = model("g (float[N, 4] x) => (float[N, 4] y) { y = Identity (x) }")
    flat = Profile(shapes={"x": ShapeRange(min=(1, 4), opt=(1, 4), max=(2, 4))})
    assert not backend.build(request(Precision.FP32, profiles=(flat,), source=passing), tmp_path).problems


def test_scalars_and_many_inputs(backend: TensorRTBackend, tmp_path: Path) -> None:
    source = model(
        "g (float[N, 4] x, float s, int64[N] i) => (float[N, 4] y, int64[N] j)"
        " { t = Mul (x, s) y = Add (t, w) j = Add (i, k) }",
        w=np.ones(4, np.float32),
        k=np.array(3, np.int64),
    )
    ranges = {"x": ((1, 4), (2, 4)), "s": ((), ()), "i": ((1,), (2,))}
    profile = Profile(shapes={n: ShapeRange(min=a, opt=b, max=b) for n, (a, b) in ranges.items()})
    found: BuildRequest = request(Precision.FP32, profiles=(profile,), source=source)
    assert not backend.build(found, tmp_path).problems
