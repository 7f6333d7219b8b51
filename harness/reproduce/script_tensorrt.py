"""Reproduces one failure with numpy, the TensorRT bindings and cuda-python; exit status 1 while it fails."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

UNTYPED = ("CONSTANT", "CAST", "IDENTITY", "PLUGIN", "PLUGIN_V2", "PLUGIN_V3")


def build(trt: Any, case: Any, onnx: Path) -> Any:
    """The engine of the lowered model, built as the harness builds it."""
    logger = trt.Logger(trt.Logger.WARNING)
    if hasattr(trt, "init_libnvinfer_plugins"):
        trt.init_libnvinfer_plugins(logger, "")
    builder = trt.Builder(logger)
    weak, kinds = case["typing"] == "weak", trt.NetworkDefinitionCreationFlag
    network = builder.create_network(1 << int(kinds.EXPLICIT_BATCH if weak else kinds.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx)):
        sys.exit("\n".join(str(parser.get_error(i)) for i in range(parser.num_errors)))
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    if not case["tf32"] and hasattr(trt.BuilderFlag, "TF32"):
        config.clear_flag(trt.BuilderFlag.TF32)
    for name in case["builder_flags"]:
        config.set_flag(getattr(trt.BuilderFlag, name))
    if weak:
        hold(trt, network, case["kept"])
    for name, shape in case["shapes"].items():
        profile.set_shape(name, shape, shape, shape)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    return sys.exit("TensorRT builds no engine") if plan is None else plan


def hold(trt: Any, network: Any, kept: Any) -> None:
    """Ask FP32 of the layers of the ONNX nodes `kept` that give out floats."""
    for layer in map(network.get_layer, range(network.num_layers)):
        node = layer.metadata.removeprefix("[ONNX Layer: ").removesuffix("]")
        if node not in kept or layer.type.name in UNTYPED:
            continue
        outputs = {k: layer.get_output(k) for k in range(layer.num_outputs)}
        floats = [k for k, t in outputs.items() if t.is_execution_tensor and t.dtype == trt.float32]
        if floats:
            layer.precision = trt.float32
        for k in floats:
            layer.set_output_type(k, trt.float32)


def allocator(trt: Any, cuda: Any) -> Any:
    """What gives outputs their memory and is told their shapes, which may depend on data."""

    def reallocate(self: Any, name: Any, _memory: Any, size: Any, *_: Any) -> Any:
        self.pointers[name] = int(cuda.cudaMalloc(size)[1])
        return self.pointers[name]

    def notify(self: Any, name: Any, shape: Any) -> None:
        self.shapes[name] = tuple(shape)

    calls = {"reallocate_output": reallocate, "reallocate_output_async": reallocate, "notify_shape": notify}
    outputs = type("Outputs", (trt.IOutputAllocator,), calls)()
    outputs.pointers, outputs.shapes = {}, {}
    return outputs


def run(trt: Any, plan: Any, feeds: Any, names: Any) -> Any:
    """Outputs by name for one set of feeds."""
    from cuda.bindings import runtime as cuda

    engine = trt.Runtime(trt.Logger(trt.Logger.WARNING)).deserialize_cuda_engine(plan)
    context, outputs, kind = engine.create_execution_context(), allocator(trt, cuda), cuda.cudaMemcpyKind
    kinds = {name: trt.nptype(engine.get_tensor_dtype(name)) for name in (*feeds, *names)}
    for name, array in feeds.items():
        context.set_input_shape(name, array.shape)
        given = np.ascontiguousarray(array, kinds[name])  # TensorRT has no FP64, and none before 10 INT64
        pointer = int(cuda.cudaMalloc(max(1, given.nbytes))[1])
        cuda.cudaMemcpy(pointer, given.ctypes.data, given.nbytes, kind.cudaMemcpyHostToDevice)
        context.set_tensor_address(name, pointer)
    for name in names:
        context.set_output_allocator(name, outputs)
    if not context.execute_async_v3(0):
        sys.exit("TensorRT does not run the engine")
    cuda.cudaDeviceSynchronize()
    found = {name: np.empty(outputs.shapes[name], kinds[name]) for name in names}
    for name, array in found.items():
        cuda.cudaMemcpy(array.ctypes.data, outputs.pointers[name], array.nbytes, kind.cudaMemcpyDeviceToHost)
    return found


def judge(output: Any, got: Any, want: Any) -> bool:
    """Whether one output is within what is allowed; prints its error."""
    r, d = np.abs(want.astype(np.float64)), np.abs(got.astype(np.float64) - want)
    least = (output["scale"] or 0.0) * want.size
    error = float(np.mean(got != want) if output["exact"] else d.sum() / max(r.sum(), least))
    allowed = output["allowed"]["unequal" if output["exact"] else "mre"]
    print(f"output {output['name']!r}: {error:.3e} (allowed {allowed:.1e})")
    return bool(error <= allowed)


def main() -> int:
    """Build and run the model that failed, and print the mean relative error of every output."""
    here = Path(__file__).resolve().parent
    case = json.loads((here / "case.json").read_text(encoding="utf-8"))
    trt = importlib.import_module(case["module"])
    inputs, expected = np.load(here / "inputs.npz"), np.load(here / "expected.npz")
    feeds = {name: inputs[key] for name, key in case["inputs"].items()}
    plan = build(trt, case, here / case["ran"])
    found = run(trt, plan, feeds, [output["name"] for output in case["outputs"]])
    good = [judge(output, found[output["name"]], expected[output["key"]]) for output in case["outputs"]]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
