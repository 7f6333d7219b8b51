"""Device memory, streams, events and the state of GPUs, over cuda-python or pycuda.

No engine is known here.
"""
