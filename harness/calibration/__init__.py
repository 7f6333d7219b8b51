"""Calibration: how large the activations are that a quantized precision must represent.

Nothing here quantizes: ranges go to `lowering`.
"""
