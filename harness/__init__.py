"""Validation and accuracy harness for TensorRT engines.

What `__all__` names is public, and is loaded when it is first asked for; everything else is internal and may
change with any version.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from harness.api.comparing import assert_close, compare, explain
    from harness.api.engines import build_engine, compare_layers, measure_latency, open_engine, search_fp32
    from harness.api.lowering import LoweredModel, calibrate, emulate, lower
    from harness.api.report import Report
    from harness.api.validating import validate
    from harness.drafting.draft import draft_spec
    from harness.errors import BackendError, BackendUnavailableError, HarnessError, UsageError
    from harness.precision import Precision, Tolerance
    from harness.records import Verdict
    from harness.spec.file import read_spec
    from harness.spec.model_spec import ModelSpec
    from harness.verdict.validate import answers

__all__ = [
    "BackendError",
    "BackendUnavailableError",
    "HarnessError",
    "LoweredModel",
    "ModelSpec",
    "Precision",
    "Report",
    "Tolerance",
    "UsageError",
    "Verdict",
    "answers",
    "assert_close",
    "build_engine",
    "calibrate",
    "compare",
    "compare_layers",
    "draft_spec",
    "emulate",
    "explain",
    "lower",
    "measure_latency",
    "open_engine",
    "read_spec",
    "search_fp32",
    "validate",
]

_HOMES = {
    "api.comparing": ("assert_close", "compare", "explain"),
    "api.engines": ("build_engine", "compare_layers", "measure_latency", "open_engine", "search_fp32"),
    "api.lowering": ("LoweredModel", "calibrate", "emulate", "lower"),
    "api.report": ("Report",),
    "api.validating": ("validate",),
    "drafting.draft": ("draft_spec",),
    "errors": ("BackendError", "BackendUnavailableError", "HarnessError", "UsageError"),
    "precision": ("Precision", "Tolerance"),
    "records": ("Verdict",),
    "spec.file": ("read_spec",),
    "spec.model_spec": ("ModelSpec",),
    "verdict.validate": ("answers",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

# An installed package has its fixtures and suites inside; in a checkout they lie beside it.
_here = Path(__file__).resolve().parent
if not (_here / "fixtures").is_dir():
    __path__.append(str(_here.parent))


def __getattr__(name: str) -> Any:
    """Load a public name (PEP 562)."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'harness' has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(f"harness.{_HOME_OF[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """The public names."""
    return [*__all__, "__version__"]
