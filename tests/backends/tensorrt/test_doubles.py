"""The doubles are no laxer than TensorRT: their members are real, and each strictness finds a fault."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.backends.tensorrt import types as trt_types
from harness.backends.tensorrt.run import call as trt_call
from harness.backends.tensorrt.run import engine as trt_engine
from harness.backends.tensorrt.run.call import Call
from harness.backends.tensorrt.run.debug import Listener
from harness.backends.tensorrt.run.engine import TensorRTEngine
from harness.errors import RunError
from harness.spec.model_spec import Profile, ShapeRange
from tests.conformance.probe import signatures
from tests.helpers import trt_double
from tests.helpers.lowering import model
from tests.helpers.tensorrt import rtx
from tests.helpers.trt_double import STRICT, Faults, HostDevice, double
from tests.helpers.trt_engine import PROFILES, ramp, relu_and_sum

REAL = {"Runtime": "Runtime", "Engine": "ICudaEngine", "Context": "IExecutionContext"}


@pytest.mark.parametrize("name", REAL)
def test_a_double_has_only_members_of_the_real_class(name: str) -> None:
    real = getattr(rtx().api, REAL[name])
    for key, value in vars(getattr(trt_double, name)).items():
        if key.startswith("_") or key in ("known", "api", "say", "device", "computes"):
            continue
        assert hasattr(real, key), f"{REAL[name]} has no {key}"
        if not isinstance(value, property) and callable(value):
            assert parameters(getattr(real, key).__doc__) >= own(value), f"{REAL[name]}.{key}: {own(value)}"


def parameters(doc: str) -> set[str]:
    """Names of parameters in any overload of a pybind11 signature."""
    return {name for text in signatures(doc, "") for name in re.findall(r"(\w+):", text)}


def own(function: Any) -> set[str]:
    return set(function.__code__.co_varnames[1 : function.__code__.co_argcount])


Opened = Callable[[], TensorRTEngine]
Plant = Callable[[pytest.MonkeyPatch], None]


def right(opened: Opened) -> bool:
    """The largest feed gives what NumPy computes."""
    with opened() as engine:
        given = ramp(4).astype(KINDS[engine.ports_in[0].dtype])
        found = engine.run({"x": given})["y"]
    return bool(np.array_equal(found.astype(np.float32), np.maximum(given.astype(np.float32), 0)))


def told(opened: Opened) -> bool:
    """A debug tensor that cannot be copied fails the run."""
    with opened() as engine, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Listener, "_copy", lambda *_: 1 / 0)
        try:
            engine.listening(["shown_x"], "unfused tensors").run({"x": ramp(2)})
        except (RunError, ZeroDivisionError):
            return True
    return False


def shaped(opened: Opened) -> bool:
    """An input on the host that holds a shape is obeyed."""
    with opened() as engine:
        found = engine.run({"x": ramp(4), "n": np.array([2, 8], np.int64)})
    return bool(found["y"].shape == (2, 8))


def swallow(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Listener, "process_debug_tensor", lambda self, *args: self._copy(*args))


def another_stream(patch: pytest.MonkeyPatch) -> None:
    execute = Call.execute

    def elsewhere(self: Call) -> None:
        self.stream = self.buffers._device.create_stream()
        execute(self)

    patch.setattr(Call, "execute", elsewhere)


def too_small(patch: pytest.MonkeyPatch) -> None:
    class Halved:
        to_bytes = staticmethod(trt_types.to_bytes)

        @staticmethod
        def nbytes_of(name: str, shape: tuple[int, ...]) -> int:
            return trt_types.nbytes_of(name, shape) // 2

    patch.setattr(trt_call, "trt_types", Halved)


def crooked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        "harness.backends.cuda.buffers.Buffers.space",
        lambda self, name, nbytes: self._places.setdefault(
            name, (self._device.allocate(nbytes + 64) + 4, nbytes)
        )[0],
    )


def freed_early(patch: pytest.MonkeyPatch) -> None:
    def space(self: Any, name: str, nbytes: int) -> int:
        if name not in self._places:
            self._places[name] = (self._device.allocate(nbytes), nbytes)
            self._device.free(self._places[name][0])
        return int(self._places[name][0])

    patch.setattr("harness.backends.cuda.buffers.Buffers.space", space)


def no_profile(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(TensorRTEngine, "_new_context", lambda self, _: self._bare_context())


def late_host_inputs(patch: pytest.MonkeyPatch) -> None:
    place, require = Call._place, Call.require_shapes
    waiting: list[tuple[str, int]] = []

    def later(self: Call, name: str, address: int) -> None:
        waiting.append((name, address)) if name == "n" else place(self, name, address)

    def required(self: Call) -> None:
        require(self)
        for name, address in waiting:
            place(self, name, address)

    patch.setattr(Call, "_place", later)
    patch.setattr(Call, "require_shapes", required)


def early_shapes(patch: pytest.MonkeyPatch) -> None:
    give = Call.give
    early: dict[str, tuple[int, ...]] = {}

    def asking(self: Call, port: Any, values: Any) -> None:
        early.update({name: tuple(self.context.get_tensor_shape(name)) for name in ("y", "s")})
        give(self, port, values)

    def taking(self: Call, port: Any) -> None:
        nbytes = trt_types.nbytes_of(port.dtype, early[port.name])
        self._place(port.name, self.buffers.space(port.name, nbytes))

    patch.setattr(Call, "give", asking)
    patch.setattr(Call, "take", taking)


def any_format(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(trt_engine, "vectorised", lambda _: None)


def wrong_type(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(trt_types, "NUMPY", {**trt_types.NUMPY, "BF16": np.dtype(np.float16)})
    patch.setattr("tests.helpers.trt_double.context.numpy_type", KINDS.__getitem__)
    patch.setattr("tests.helpers.trt_double.context.from_bytes", lambda kind, data, shape: (
        data.copy().view(KINDS[kind]).reshape(shape)))  # fmt: skip


KINDS = dict(trt_types.NUMPY)


def device_first(patch: pytest.MonkeyPatch) -> None:
    close = TensorRTEngine.close

    def closing(self: TensorRTEngine) -> None:
        self.device.close()
        close(self)

    patch.setattr(TensorRTEngine, "close", closing)


RESHAPE = "g (float[N, 4] x, int64[2] n) => (float[A, B] y) { y = Reshape (x, n) }"
PLANTED: dict[str, tuple[Plant, Callable[[Opened], bool], dict[str, Any]]] = {
    "callbacks": (swallow, told, {}),
    "streams": (another_stream, right, {}),
    "bounds": (too_small, right, {}),
    "alignment": (crooked, right, {}),
    "ownership": (freed_early, right, {}),
    "profile": (no_profile, right, {}),
    "host shapes": (late_host_inputs, shaped, {"on_host": ("n",)}),
    "unknown shapes": (early_shapes, right, {}),
    "formats": (any_format, right, {"formats": {"y": "CHW32"}}),
    "types": (wrong_type, right, {"dtypes": {"x": "BF16", "y": "BF16"}}),
    "freed": (device_first, right, {}),
}


def opened_on(folder: Path, what: str, *, lenient: bool) -> Opened:
    shapes = {"x": PROFILES[0].shapes["x"]}
    source = relu_and_sum()
    if what == "host shapes":
        source = model(RESHAPE)
        shapes["n"] = ShapeRange(min=(2,), opt=(2,), max=(2,))
    device = HostDevice(lenient=frozenset({what}) if lenient else frozenset())
    faults = Faults(**PLANTED[what][2])

    def opened() -> TensorRTEngine:
        bindings, _, _ = double(source, (Profile(name="p", shapes=shapes),), faults, device, folder / "p")
        return TensorRTEngine.open(bindings, folder / "p", device)

    return opened


def holds(check: Callable[[Opened], bool], opened: Opened) -> bool:
    try:
        return check(opened)
    except (AssertionError, RunError):
        return False


def test_every_strictness_has_its_fault() -> None:
    assert PLANTED.keys() == set(STRICT)


@pytest.mark.parametrize("what", STRICT)
def test_a_fault_is_found_by_its_strictness_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    plant, check, faults = PLANTED[what]
    if "formats" not in faults:
        assert holds(check, opened_on(tmp_path, what, lenient=False)), "it finds what is no fault"
    plant(monkeypatch)
    assert not holds(check, opened_on(tmp_path, what, lenient=False)), "the fault is not found"
    assert holds(check, opened_on(tmp_path, what, lenient=True)), "the fault is found by something else too"


@pytest.mark.parametrize("dtype", ["BF16", "HALF", "FP8", "INT8", "INT4", "FP4", "INT64", "INT32"])
def test_engines_of_every_type_run(tmp_path: Path, dtype: str) -> None:
    faults = Faults(dtypes={"x": dtype, "y": dtype, "s": "FLOAT"})
    bindings, device, _ = double(relu_and_sum(), PROFILES, faults, plan=tmp_path / "p")
    kind = trt_types.numpy_type(dtype)
    values = np.array([[-2, 1, 0, 3], [2, -1, 1, 1], [4, 4, -4, 2]], np.float32).astype(kind)
    with TensorRTEngine.open(bindings, tmp_path / "p", device) as engine:
        found = engine.run({"x": values})["y"]
    assert found.dtype == kind
    np.testing.assert_array_equal(found.astype(np.float32), np.maximum(values.astype(np.float32), 0))
