"""Validation and accuracy harness for TensorRT engines."""

from pathlib import Path

__version__ = "0.1.0"

# An installed package has its fixtures inside; in a checkout they lie beside it.
_here = Path(__file__).resolve().parent
if not (_here / "fixtures").is_dir():
    __path__.append(str(_here.parent))
