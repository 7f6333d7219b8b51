"""Doubles of TensorRT's runtime, engine and context over ONNX Runtime, and of a GPU over host memory."""

from tests.helpers.trt_double.context import Context
from tests.helpers.trt_double.device import STRICT, HostDevice
from tests.helpers.trt_double.engine import Engine, Faults, Runtime, double

__all__ = ["STRICT", "Context", "Engine", "Faults", "HostDevice", "Runtime", "double"]
