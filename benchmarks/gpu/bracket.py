"""Emulated against real kernels, layer by layer: is the emulated verdict the GPU's, how wide is the bracket?

    python benchmarks/gpu/bracket.py --out FILE.json [--cache FOLDER] [--models GLOB ...] [--limit-s 540]
    python benchmarks/gpu/bracket.py --specs FOLDER ...   # of models of your own

For every bundled and fetched model, or those of `--specs`, and each of its reduced precisions the same
lowered model runs on the GPU's kernels and, emulated, on the CPU; both are compared with the FP32 reference,
outputs and every intermediate tensor.  Models whose spec keeps nodes in FP32 run without them, too (`bare`).

mre         the largest mean relative error of the outputs, GPU and emulated
apart       mean relative difference of the two runs' outputs
verdict     whether the outputs are within the limit, GPU and emulated
layers      tensors compared; out of tolerance on the GPU, emulated, in both
ratio       GPU's error over the emulation's, over tensors with an error above the floor: 5 %, median, 95 %
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from common import ROOT, here, options, table, where, write

REDUCED = ("fp16", "bf16", "int8", "int8+fp16")
FLOOR = 2.0**-14
"""Errors below are rounding of the last bits: their ratio says nothing."""
HEADS = (
    "model", "precision", "FP32 nodes", "mre GPU", "mre emulated", "apart", "verdict GPU", "verdict emulated",
    "same", "layers", "out: GPU", "out: emulated", "out: both", "ratio 5 %", "ratio 50 %", "ratio 95 %",
)  # fmt: skip


def cases(folders: list[Path], models: list[str]) -> Iterator[tuple[Any, Any, str]]:
    """Spec, plan and whether nodes are kept, for every case here."""
    from harness.precision import PrecisionPlan
    from harness.spec import assets
    from harness.spec.file import find_specs, read_spec

    for path in find_specs(folders):
        spec = read_spec(path)
        if assets.missing(spec) or not any(fnmatchcase(spec.name, glob) for glob in models):
            continue
        for precision in (p for p in spec.precisions if str(p) in REDUCED):
            plan = spec.plan(precision)
            kept = plan.fp32_nodes or plan.fp32_op_types
            yield spec, plan, "as in the spec" if kept else "none"
            if kept:
                yield spec, PrecisionPlan(precision), "none (bare)"


def study(spec: Any, plan: Any, backend: Any, cache: Any) -> dict[str, Any]:
    """The figures of one case."""
    import numpy as np

    from harness.backends.onnxruntime.backend import SessionSettings, emulation_level, open_model
    from harness.data.batches import stacked
    from harness.engines.subject import Subject
    from harness.lowering.emulation.emulate import emulate
    from harness.verdict.tasks import feeds_needed

    subject = Subject(spec, backend, cache)
    shapes = {name: part.opt for name, part in spec.profiles[0].shapes.items()}
    rows, count = subject.feeds.rows(shapes), feeds_needed(subject.feeds, shapes)
    feeds = [subject.feeds.feed(shapes, k * rows) for k in range(count)]
    emulated = emulate(subject.lowered(plan))
    settings = SessionSettings(level=emulation_level(plan.precision))
    built = subject.engine(plan)
    expected = [subject.reference().outputs(feed) for feed in feeds]
    with built.open("verified") as engine, open_model(emulated, settings=settings) as other:
        names = list(expected[0])
        real = [{n: v for n, v in engine.run(feed).items() if n in names} for feed in feeds]
        fake = [{n: v for n, v in other.run(feed).items() if n in names} for feed in feeds]
    judged = {
        "gpu": judge(spec, plan, stacked(real, rows, expected[0]), stacked(expected, rows)),
        "emulated": judge(spec, plan, stacked(fake, rows, expected[0]), stacked(expected, rows)),
    }
    apart = judge(spec, plan, stacked(real, rows, expected[0]), stacked(fake, rows, expected[0]))

    def emulated_layers(tensors: Any) -> Any:
        wanted = dict.fromkeys([*(value.name for value in emulated.graph.outputs), *tensors])
        return open_model(emulated, tuple(wanted), settings=settings)

    errors = {
        "gpu": layers(subject, plan, feeds[0], built.open_instrumented, real[0]),
        "emulated": layers(subject, plan, feeds[0], emulated_layers, fake[0]),
    }
    return {
        "mre": {name: found.mre for name, found in judged.items()},
        "apart": apart.mre,
        "quality": {name: found.quality for name, found in judged.items()},
        "finite": {
            name: all(bool(np.isfinite(np.asarray(v, float)).all()) for one in runs for v in one.values())
            for name, runs in (("gpu", real), ("emulated", fake))
        },
        "layers": errors,
        **widths(errors),
    }


def judge(spec: Any, plan: Any, actual: Any, expected: Any) -> Any:
    """A comparison by the spec's own tolerance and rules."""
    from harness.comparison.compare import compare_outputs

    return compare_outputs(actual, expected, spec.terms(plan.precision))


def layers(subject: Any, plan: Any, feeds: Any, opener: Any, outputs: Any) -> dict[str, tuple[float, bool]]:
    """Error of every tensor, and whether it is out of tolerance."""
    from harness.backends.onnxruntime.backend import open_model
    from harness.graph.walk import values_of
    from harness.layers.compare import LayerQuestion, compare_layers

    values = [value for value in values_of(subject.lowered(plan).model.graph) if value.name]
    offered = {v.name: 4 if v.dtype is None else math.ceil(v.dtype.bitwidth / 8) for v in values}
    question = LayerQuestion(
        subject.normalised,
        offered,
        subject.spec.terms(plan.precision),
        feeds,
        lambda names, *_: open_model(subject.normalised, names),
        lambda names, *_: opener(names),
        outputs,
        "added outputs",
    )
    return {layer.place.tensor: (layer.error, layer.over) for layer in compare_layers(question).layers}


def widths(errors: Mapping[str, Mapping[str, tuple[float, bool]]]) -> dict[str, Any]:
    """How many tensors are out of tolerance where, and the spread of the ratio of both errors."""
    import numpy as np

    real, fake = errors["gpu"], errors["emulated"]
    shared = [name for name in real if name in fake]
    over = {who: {name for name in shared if errors[who][name][1]} for who in ("gpu", "emulated")}
    pairs = [(real[name][0], fake[name][0]) for name in shared]
    ratios = [a / b for a, b in pairs if min(a, b) > FLOOR and math.isfinite(a) and math.isfinite(b)]
    spread = np.quantile(ratios, [0.05, 0.5, 0.95]).tolist() if ratios else [None] * 3
    both = over["gpu"] & over["emulated"]
    return {
        "compared": len(shared),
        "over": {"gpu": len(over["gpu"]), "emulated": len(over["emulated"]), "both": len(both)},
        "only": {who: sorted(names - both)[:20] for who, names in over.items()},
        "ratio": spread,
        "ratios": len(ratios),
    }


def row(name: str, precision: str, kept: str, found: Mapping[str, Any]) -> list[object]:
    """One line of the table."""
    if "error" in found:
        return [name, precision, kept, found["error"][:90], *[""] * (len(HEADS) - 4)]
    words = {True: "pass", False: "fail"}
    quality, over = found["quality"], found["over"]
    return [
        *(name, precision, kept),
        *(f"{found['mre'][who]:.2e}" for who in ("gpu", "emulated")),
        f"{found['apart']:.1e}",
        *(words[quality[who]] for who in ("gpu", "emulated")),
        "yes" if quality["gpu"] == quality["emulated"] else "NO",
        *(found["compared"], over["gpu"], over["emulated"], over["both"]),
        *("" if value is None else f"{value:.2f}" for value in found["ratio"]),
    ]


def main() -> int:
    """Print the table, also of a part where time ran out; 1 where a verdict differs."""
    args = options(
        __doc__,
        models={"nargs": "+", "default": ["*"], "metavar": "GLOB", "help": "only these models"},
        specs={
            "nargs": "+",
            "type": Path,
            "default": [ROOT / "suites" / "models"],
            "help": "folders of specs (default: those of this checkout)",
        },
        limit_s={"type": float, "default": 540.0, "help": "begin no case after so many seconds"},
        work={"type": Path, "help": "cache of engines and references (default: a new folder)"},
    )
    import tempfile

    from harness.backends.onnxruntime.backend import OnnxRuntimeBackend
    from harness.errors import HarnessError
    from harness.storage.cache import Cache

    print(here(), flush=True)
    backend = OnnxRuntimeBackend(args.provider)
    started, rows, figures, late = time.monotonic(), [], [], []
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache(args.work or Path(folder))
        for spec, plan, kept in cases(args.specs, args.models):
            label = f"{spec.name} {plan.precision} {kept}"
            if time.monotonic() - started > args.limit_s:
                late.append(label)
                continue
            begun = time.monotonic()
            try:
                found = study(spec, plan, backend, cache)
            except HarnessError as error:
                found = {"error": f"{type(error).__name__}: {error}"}
            seconds = time.monotonic() - begun
            rows.append(row(spec.name, str(plan.precision), kept, found))
            figures.append(
                {
                    "model": spec.name,
                    "precision": str(plan.precision),
                    "kept": kept,
                    "seconds": seconds,
                    **found,
                }
            )
            print(f"{seconds:5.1f} s  {' | '.join(map(str, rows[-1]))}", flush=True)
            write(args.out, {"where": where(), "cases": figures, "late": late})
    write(args.out, {"where": where(), "cases": figures, "late": late})
    print(table(HEADS, rows))
    print(f"not begun for lack of time: {late or 'none'}")
    same = all(one["quality"]["gpu"] == one["quality"]["emulated"] for one in figures if "error" not in one)
    print("verdicts: all the same" if same else "verdicts: some differ")
    return 0 if same and not late else 1


if __name__ == "__main__":
    raise SystemExit(main())
