"""Graphs that compute in FP32 what a lowered graph computes in its own format, and probes beside them."""
