"""Runtimes: the only place that knows ONNX Runtime, TensorRT or CUDA."""
