"""Engines executed: runtime, profiles, buffers, intermediate tensors."""
