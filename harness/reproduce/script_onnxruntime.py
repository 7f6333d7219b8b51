"""Reproduces one failure with numpy and onnxruntime alone; exit status 1 while it fails, 0 once it passes."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort


def errors(got: Any, want: Any, scale: float) -> tuple[list[float], int]:
    """mre, the worst row's and the worst element's error; how many NaN and infinities are misplaced."""
    got, want = got.astype(np.float64), want.astype(np.float64)
    finite = np.isfinite(got) & np.isfinite(want)
    misplaced = np.count_nonzero(~finite & (got != want) & ~(np.isnan(got) & np.isnan(want)))
    with np.errstate(invalid="ignore", divide="ignore"):
        d, r = np.where(finite, np.abs(got - want), 0), np.where(finite, np.abs(want), 0)
        unit = max(r.sum() / max(1, finite.sum()), scale)
        inner = tuple(range(1, d.ndim)) if d.ndim > 1 else None
        rows = d.sum(inner) / np.maximum(r.sum(inner), unit * finite.sum(inner))
        figures = d.sum() / (unit * finite.sum()), np.max(rows), np.max(d / np.maximum(r, unit), initial=0)
    return [float(np.nan_to_num(figure, posinf=np.inf)) for figure in figures], int(misplaced)


def judge(output: Any, got: Any, want: Any) -> bool:
    """Whether one output is within what is allowed; prints its figures."""
    allowed = output["allowed"]
    if got.shape != want.shape or output["exact"]:
        share = (
            float(np.mean(got != want)) if got.shape == want.shape and want.size else 1.0 * (want.size > 0)
        )
        good, text = share <= allowed["unequal"], f"{share:.2%} of the elements differ"
    else:
        (mre, row, element), lost = errors(got, want, output["scale"] or 0.0)
        good = not lost and mre <= allowed["mre"] and row <= allowed["row"] and element < allowed["element"]
        text = (
            f"mre {mre:.3e} (allowed {allowed['mre']:.1e}), worst row {row:.1e}, worst element {element:.1e}"
        )
        text += f", {lost} NaN or infinities misplaced" if lost else ""
    print(f"output {output['name']!r}: {text}: {'pass' if good else 'FAIL'}")
    return bool(good)


def main() -> int:
    """Run the model that failed on its inputs and judge every output."""
    here = Path(__file__).resolve().parent
    case = json.loads((here / "case.json").read_text(encoding="utf-8"))
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, case["optimization"])
    providers = [tuple(provider) for provider in case["providers"]]
    if providers[0][0] != "CPUExecutionProvider" and hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    session = ort.InferenceSession(str(here / case["ran"]), options, providers=providers)
    if providers[0][0] not in session.get_providers():
        sys.exit(f"ONNX Runtime fell back from {providers[0][0]} to {', '.join(session.get_providers())}")
    inputs, expected = np.load(here / "inputs.npz"), np.load(here / "expected.npz")
    feeds = {name: inputs[key] for name, key in case["inputs"].items()}
    found = session.run([output["name"] for output in case["outputs"]], feeds)
    pairs = zip(case["outputs"], found, strict=True)
    good = [judge(output, got, expected[output["key"]]) for output, got in pairs]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
