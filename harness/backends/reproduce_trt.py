"""Reproduces one failure with numpy, the TensorRT bindings and cuda-python; exit status 1 while it fails."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np


def build(trt: Any, case: Any, onnx: Path) -> Any:
    """The engine of the lowered model, built as the harness builds it."""
    logger = trt.Logger(trt.Logger.WARNING)
    if hasattr(trt, "init_libnvinfer_plugins"):
        trt.init_libnvinfer_plugins(logger, "")
    builder = trt.Builder(logger)
    kinds = trt.NetworkDefinitionCreationFlag
    flags = 0 if case["typing"] == "weak" else 1 << int(kinds.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx)):
        sys.exit("\n".join(str(parser.get_error(i)) for i in range(parser.num_errors)))
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    if not case["tf32"] and hasattr(trt.BuilderFlag, "TF32"):
        config.clear_flag(trt.BuilderFlag.TF32)
    for name in case["builder_flags"]:
        config.set_flag(getattr(trt.BuilderFlag, name))
    for layer in map(network.get_layer, range(network.num_layers)):
        if case["typing"] == "weak" and layer.name in case["kept"]:
            layer.precision = trt.float32
    for name, shape in case["shapes"].items():
        profile.set_shape(name, shape, shape, shape)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    return sys.exit("TensorRT builds no engine") if plan is None else plan


def run(trt: Any, plan: Any, feeds: Any, names: Any) -> Any:
    """Outputs by name for one set of feeds."""
    from cuda.bindings import runtime as cuda

    engine = trt.Runtime(trt.Logger(trt.Logger.WARNING)).deserialize_cuda_engine(plan)
    context, arrays, pointers = engine.create_execution_context(), {}, {}
    for name, array in feeds.items():
        context.set_input_shape(name, array.shape)
        arrays[name] = np.ascontiguousarray(array)
    for name in names:
        arrays[name] = np.empty(
            tuple(context.get_tensor_shape(name)), trt.nptype(engine.get_tensor_dtype(name))
        )
    kind = cuda.cudaMemcpyKind
    for name, array in arrays.items():
        pointers[name] = cuda.cudaMalloc(max(1, array.nbytes))[1]
        cuda.cudaMemcpy(pointers[name], array.ctypes.data, array.nbytes, kind.cudaMemcpyHostToDevice)
        context.set_tensor_address(name, int(pointers[name]))
    if not context.execute_async_v3(0):
        sys.exit("TensorRT does not run the engine")
    cuda.cudaDeviceSynchronize()
    for name in names:
        cuda.cudaMemcpy(
            arrays[name].ctypes.data, pointers[name], arrays[name].nbytes, kind.cudaMemcpyDeviceToHost
        )
    return {name: arrays[name] for name in names}


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
