"""`trt-harness doctor`, `inspect` and `trtexec`."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.backends.tensorrt.backend import TensorRTBackend
from harness.backends.tensorrt.origin import Origin
from harness.cli import main
from harness.commands.inspect import BACKENDS
from harness.doctor import checks as doctor
from harness.doctor.checks import Finding, examine, failed, package_traps
from harness.errors import BackendUnavailableError
from harness.precision import Precision
from harness.reproduce.trtexec import Case, commands, shape_list
from harness.spec.model_spec import BuildSpec
from tests.helpers.tensorrt import LARGE, SMALL, request, rtx

SPEC = Path(__file__).parents[2] / "suites" / "models" / "tabular_mlp" / "spec.toml"


def lines(findings: list[Finding], subject: str) -> list[str]:
    return [finding.text for finding in findings if finding.subject == subject]


def test_the_doctor_says_what_each_backend_can_do() -> None:
    found = examine()
    assert any("builds and runs" in text for text in lines(found, "onnxruntime"))
    assert all(lines(found, name) for name in ("tensorrt", "tensorrt_rtx"))


@pytest.mark.parametrize(
    ("installed", "subject", "says"),
    [
        (
            {"onnxruntime": "1", "onnxruntime-gpu": "1"},
            "onnxruntime",
            "pip uninstall -y onnxruntime onnxruntime-gpu",
        ),
        (
            {"tensorrt-cu13-bindings": "11.4", "tensorrt-cu13-libs": "11.0"},
            "tensorrt-cu13-bindings",
            "11.4, but tensorrt-cu13-libs is 11.0",
        ),
    ],
)
def test_packages_that_do_not_go_together_are_traps(
    installed: dict[str, str], subject: str, says: str
) -> None:
    (found,) = package_traps(installed)
    assert (found.state, found.subject) == ("trap", subject)
    assert says in found.text
    assert failed([found])


def test_packages_that_go_together_are_none() -> None:
    assert not list(
        package_traps({"onnxruntime-gpu": "1", "tensorrt-cu13-bindings": "2", "tensorrt-cu13-libs": "2"})
    )


def test_another_library_than_the_bindings_is_a_trap(monkeypatch: pytest.MonkeyPatch) -> None:
    rtx()
    monkeypatch.setattr("harness.backends.tensorrt.library.loaded_version", lambda _: (1, 2, 3))
    assert any("library 1.2.3" in text for text in lines(examine(), "tensorrt_rtx"))


def test_the_library_that_is_loaded_is_asked() -> None:
    from harness.backends.tensorrt.library import loaded_version

    assert (loaded_version("tensorrt_rtx") or ())[:2] == rtx().version


def test_no_context_is_a_trap_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.errors import RunError

    def broken(_: object) -> None:
        raise RunError("cuInit: CUDA_ERROR_UNKNOWN")

    monkeypatch.setattr("harness.backends.cuda.device.open_device", broken)
    assert doctor._context("pycuda", gpu=True) == Finding(
        "trap", "pycuda", "no CUDA context: cuInit: CUDA_ERROR_UNKNOWN"
    )
    assert doctor._context("pycuda", gpu=False).state == "no"


def test_a_plan_of_another_version_is_a_trap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rtx()
    TensorRTBackend("tensorrt_rtx", isolate=False).build(request(Precision.FP32), tmp_path)
    assert doctor._engine(tmp_path) == Finding("ok", tmp_path.name, "fits")
    old = Origin("tensorrt_rtx", "1.4.0", "", "")
    monkeypatch.setattr("harness.backends.tensorrt.audit.record.read_origin", lambda _: old)
    assert main(["doctor", str(tmp_path / "engine.plan")]) == 1
    assert "built by tensorrt_rtx 1.4.0" in capsys.readouterr().out


def test_a_folder_of_something_else_is_no_engine(tmp_path: Path) -> None:
    assert doctor._engine(tmp_path).state == "no"


def test_inspect_prints_network_and_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rtx()
    TensorRTBackend("tensorrt_rtx", isolate=False).build(request(Precision.FP16, ("fc",)), tmp_path)
    assert main(["inspect", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "fp16, built by tensorrt_rtx" in shown
    assert "profile 0 small: x [1, 3, 8, 8]..[2, 3, 16, 16]..[4, 3, 32, 32]" in shown
    assert "MATRIX_MULTIPLY  fc" in shown
    assert "from fc" in shown


def test_inspect_of_a_plan_reads_the_record_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    TensorRTBackend("tensorrt_rtx").build(request(Precision.FP16), tmp_path)
    assert main(["inspect", str(tmp_path)]) == 0
    whole = capsys.readouterr().out
    assert main(["inspect", str(tmp_path / "engine.plan")]) == 0
    assert capsys.readouterr().out == whole


def test_inspect_of_a_spec_builds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rtx()
    monkeypatch.setenv("TRT_HARNESS_CACHE", str(tmp_path))
    command = ["inspect", str(SPEC), "--backend", "tensorrt_rtx", "--precision", "fp32"]
    assert main(command) == main(command) == 0
    shown = capsys.readouterr().out
    assert shown.count("network: ") == 2
    assert "(hit)" in shown


def test_inspect_takes_the_folder_of_a_spec(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(SPEC.parent), "--backend", "tensorrt"]) == 4
    assert "holds no TensorRT engine" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "rule"),
    [("", "holds no TensorRT engine"), ("absent", "no such file or folder"), ("a.txt", "neither a spec")],
)
def test_inspect_of_what_is_no_engine_is_a_mistake_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, rule: str
) -> None:
    (tmp_path / "a.txt").touch()
    assert main(["inspect", str(tmp_path / name)]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert line.count(str(tmp_path)) == 1
    assert rule in line


@pytest.mark.parametrize("content", ["{}", "[]", "{", "null"])
def test_inspect_of_a_broken_record_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    for name in ("build.json", "layers.json"):
        (tmp_path / name).write_text(content)
    assert main(["inspect", str(tmp_path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "layers.json: not the record of a TensorRT engine" in line


def case(precision: Precision = Precision.FP16, dynamic: tuple[str, ...] = ("x",), **options: Any) -> Case:
    spec = BuildSpec.model_validate(options)
    return Case(Path("m.onnx"), Path("m.engine"), precision, (SMALL,), spec, dynamic, ("a b", "c"))


AT = {"x": (2, 3, 16, 16)}


def test_trtexec_10_and_11_differ_where_their_defaults_do() -> None:
    ten, eleven = (commands(case(), release, [(0, AT)]) for release in (10, 11))
    assert "--stronglyTyped" in ten.build
    assert "--stronglyTyped" not in eleven.build
    assert {"--includeDataTransfers", "--noCudaGraph", "--noSpinWait"} <= set(eleven.timings[0])
    assert ten.timings[0] == ("trtexec", "--loadEngine=m.engine", "--shapes=x:2x3x16x16")


def test_shapes_and_tf32_are_said() -> None:
    build = commands(case(), 11, []).build
    assert {"--minShapes=x:1x3x8x8", "--optShapes=x:2x3x16x16", "--maxShapes=x:4x3x32x32", "--noTF32"} <= set(
        build
    )
    assert "--noTF32" not in commands(case(Precision.TF32), 11, []).build
    assert not [part for part in commands(case(dynamic=()), 11, []).build if "Shapes" in part]


def test_several_profiles_are_numbered() -> None:
    one = case()
    two = Case(**{**vars(one), "profiles": (SMALL, LARGE)})
    build = commands(two, 11, [(1, AT)])
    order = [part for part in build.build if part.startswith(("--profile=", "--minShapes"))]
    assert order == ["--profile=0", "--minShapes=x:1x3x8x8", "--profile=1", "--minShapes=x:4x3x8x8"]
    assert "--useProfile=1" in build.timings[0]


def test_every_option_has_its_flag() -> None:
    asked = case(
        workspace_bytes=1 << 30,
        memory_pools={"tactic_shared_memory": 1 << 19},
        optimization_level=4,
        version_compatible=True,
        hardware_compatibility="ampere_plus",
        dla_core=1,
        plugins=("lib.so",),
    )
    assert {
        "--memPoolSize=tacticSharedMem:0.5M,workspace:1024M",
        "--builderOptimizationLevel=4",
        "--versionCompatible",
        "--hardwareCompatibilityLevel=ampere+",
        "--useDLACore=1",
        "--allowGPUFallback",
        "--dynamicPlugins=lib.so",
    } <= set(commands(asked, 11, []).build)
    loaded = {"--versionCompatible", "--useDLACore=1", "--dynamicPlugins=lib.so"}
    assert loaded <= set(commands(asked, 11, [(0, AT)]).timings[0])


def test_weak_typing_is_flags_and_constraints() -> None:
    weak = commands(case(Precision.INT8_FP16, typing="weak"), 10, [])
    assert {"--int8", "--fp16", "--precisionConstraints=obey", "--layerPrecisions=a b:fp32,c:fp32"} <= set(
        weak.build
    )
    assert any("cannot calibrate" in remark for remark in weak.remarks)
    cached = commands(case(Precision.INT8, typing="weak", calibration_cache="x.cache"), 10, [])
    assert "--calib=x.cache" in cached.build
    assert any("no weak typing" in remark for remark in commands(case(typing="weak"), 11, []).remarks)


def test_what_trtexec_cannot_do_is_said() -> None:
    weak = commands(case(typing="weak"), 10, []).remarks
    assert any("matches names of layers exactly" in remark for remark in weak)
    assert not any("comma or a colon" in remark for remark in weak)
    colons = replace(case(typing="weak"), kept=("a:0",))
    told = "--layerPrecisions cannot take names with a comma or a colon: ['a:0']"
    assert told in commands(colons, 10, []).remarks
    aimed = commands(case(compute_capabilities=["8.9"]), 11, []).remarks
    assert any("no list of compute capabilities" in remark for remark in aimed)
    odd = commands(case(dynamic=("x",), memory_pools={"tactic_dram": 1}), 11, [])
    assert any("no option for memory pools tactic_dram" in remark for remark in odd.remarks)


def test_names_with_colons_are_quoted_twice() -> None:
    assert shape_list({"in:0": (1, 2), "y": (3,)}) == "'in:0':1x2,y:3"
    found = str(commands(case(), 11, [(0, AT)]))
    assert shlex.split(found.splitlines()[0])[0] == "trtexec"


def test_trtexec_writes_the_file_that_it_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trtexec", str(SPEC), "--precision", "fp16", "--release", "10", "-o", str(tmp_path)]) == 0
    first = shlex.split(capsys.readouterr().out.splitlines()[0])
    assert Path(first[1].removeprefix("--onnx=")).is_file()


@pytest.mark.parametrize(
    ("loads", "chosen"), [(BACKENDS, "tensorrt"), (BACKENDS[1:], "tensorrt_rtx"), ((), "tensorrt")]
)
def test_inspect_takes_the_first_backend_that_is_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, loads: tuple[str, ...], chosen: str
) -> None:
    asked = []

    def load(name: str) -> Any:
        if name not in loads:
            raise BackendUnavailableError(f"{name} is not installed")
        return SimpleNamespace(name=name)

    monkeypatch.setattr("harness.backends.tensorrt.bindings.load_bindings", load)
    monkeypatch.setattr("harness.commands.inspect._plan", lambda _, backend: asked.append(backend))
    (tmp_path / "net.plan").touch()
    assert main(["inspect", str(tmp_path / "net.plan")]) == 0
    assert asked == [chosen]
