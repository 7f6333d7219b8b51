"""TensorRT and TensorRT-RTX through their Python API; imported only when one of them is asked for."""
