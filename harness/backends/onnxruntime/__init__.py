"""ONNX Runtime with any execution provider; nothing here knows TensorRT's own API."""
