"""A spec for an ONNX file that has none: as TOML for `trt-harness init`, in memory for `--trt-onnx`."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import tomlkit

from harness.drafting.guesses import draft_inputs
from harness.drafting.result import Draft
from harness.drafting.trial import explore, untried
from harness.errors import ModelError, RunError
from harness.isolation.parent import isolated
from harness.paths import no_file
from harness.precision import Precision
from harness.spec.check import incomparable
from harness.spec.errors import one_line
from harness.spec.file import parse_spec
from harness.spec.model_spec import ModelSpec

BUDGET_S = 60.0
"""How long shapes are looked for."""

TIMEOUT_S = 300.0
TELL_S = 5.0
MEMORY_BYTES = 2 * 2**30
"""What the process that tries shapes may take beside the weights; shapes that need more are not drafted."""
COPIES = 4
"""Weights as read, as normalised, as the runtime reads them and as it packs them."""
Tell = Callable[[str], object]
_RANGES = ("min", "opt", "max")


def spec_from_onnx(path: str | os.PathLike[str]) -> ModelSpec:
    """A spec in memory for the ONNX file `path`: generated data, shapes that ONNX Runtime runs.

    Raises ModelError for a file that is no model, or a model that no spec can describe.
    """
    file = Path(path)
    draft = draft_of(file)
    tables = {"name": name_for(file), "model": {"onnx": str(file.resolve())}, **draft.tables()}
    tables["precisions"] = list(draft.precisions)
    return ModelSpec.model_validate(tables)


def draft_spec(path: str | os.PathLike[str], spec_path: str | os.PathLike[str] | None = None) -> str:
    """The TOML text of a spec for the ONNX file `path`, to be written to `spec_path` (default: beside it).

    Raises ModelError, and SpecError where the text would be no valid spec.
    """
    return text_and_doubts(path, spec_path)[0]


def text_and_doubts(
    path: str | os.PathLike[str],
    spec_path: str | os.PathLike[str] | None = None,
    *,
    memory_bytes: int = MEMORY_BYTES,
    tell: Tell | None = None,
) -> tuple[str, tuple[str, ...]]:
    """The text of `draft_spec`, and why the spec does not run as it is; see `draft_of`."""
    file = Path(path)
    folder = Path(spec_path).resolve().parent if spec_path else file.resolve().parent
    draft = draft_of(file, memory_bytes=memory_bytes, tell=tell)
    text = "\n".join(_lines(file, os.path.relpath(file.resolve(), folder), draft)) + "\n"
    parse_spec(text, spec_path or file)
    return text, draft.doubts


def draft_of(file: Path, *, memory_bytes: int = MEMORY_BYTES, tell: Tell | None = None) -> Draft:
    """What is found out of a model: by reading it here, by running it in a process of its own.

    `memory_bytes` is what that process may take beside the weights; `tell` gets a line now and then.
    """
    from harness.graph import file as onnx_file

    if rule := no_file(file):
        raise ModelError(f"{file}: {rule}")
    model = onnx_file.read(file)
    inputs = draft_inputs(model)
    if not inputs:
        raise ModelError(f"{file}: the model has no inputs to feed")
    limit = memory_bytes + COPIES * onnx_file.weight_bytes(model)
    try:
        with _told(file, tell):
            arguments = (str(file.resolve()), inputs, BUDGET_S)
            draft = isolated(explore, *arguments, timeout_s=TIMEOUT_S, memory_bytes=limit)
    except (ModelError, RunError) as error:
        draft = untried(inputs, f"not tried: {one_line(error)}")
    return replace(draft, ignored=tuple(str(v.name) for v in model.graph.outputs if incomparable(v)))


@contextmanager
def _told(file: Path, tell: Tell | None) -> Iterator[None]:
    """Say every `TELL_S` seconds that shapes are still being tried."""
    if tell is None:
        yield
        return
    done, started = threading.Event(), time.monotonic()

    def follow() -> None:
        while not done.wait(TELL_S):
            spent = time.monotonic() - started
            tell(f"{file}: trying shapes and values since {spent:.0f} s (at most {TIMEOUT_S:g} s)")

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def name_for(file: Path) -> str:
    """A name that specs may have, from a file's."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", file.stem).lstrip("._-")[:100] or "model"


def _lines(file: Path, relative: str, draft: Draft) -> Iterator[str]:
    tables = draft.tables()
    state = "it does not run as it is:" if draft.doubts else "it runs as it is. Improve it from here."
    yield f"# Written by `trt-harness init {one_line(file.name)}`; {state}"
    yield from (f"# {one_line(doubt)}" for doubt in draft.doubts)
    yield from (f"# {one_line(remark)}" for remark in draft.remarks)
    yield f"name = {_value(name_for(file))}"
    yield f"# Also known: {', '.join(p for p in Precision if p not in draft.precisions)}."
    yield f"precisions = {_value(list(draft.precisions))}"
    yield from ("", "[model]", "# Relative to this file.", f"onnx = {_value(relative)}")
    for name, part in tables["inputs"].items():
        yield from _input_lines(name, part)
    for name in draft.ignored:
        yield from ("", f"[outputs.{_key(name)}]", "# Holds no numbers.", 'compare = "ignore"')
    yield from _profile_lines(tables["profiles"][0])
    yield from _precision_lines()


def _input_lines(name: str, part: Mapping[str, Any]) -> Iterator[str]:
    yield from ("", f"[inputs.{_key(name)}]", f"dtype = {_value(part['dtype'])}")
    if part["batch_axis"]:
        yield f"batch_axis = {part['batch_axis']}"
    yield "# Generated. Real data say more, and INT8 calibrates on them:"
    yield '# data = { npz = "all.npz", member = "x" }  or { npy = "x.npy" }  or { loader = "data.py:load" }'
    yield f"data = {_table(part['data'])}"


def _profile_lines(profile: Mapping[str, Any]) -> Iterator[str]:
    yield from ("", "# Tested at min, opt, max and between. Several profiles are allowed.", "[[profiles]]")
    for name, axis in profile.get("axes", {}).items():
        yield f"axes.{_key(name)} = {_table(axis)}"
    for name, ranges in profile["shapes"].items():
        if isinstance(ranges, list):
            yield f"shapes.{_key(name)} = {_value(ranges)}"
        elif all(ranges[bound] == ranges["opt"] for bound in _RANGES):
            yield f"shapes.{_key(name)} = {_value(ranges['opt'])}"
        else:
            yield f"shapes.{_key(name)} = {_table(ranges)}"


def _precision_lines() -> Iterator[str]:
    yield ""
    yield "# Per precision, where the defaults do not do:"
    yield "# [precision.fp16]"
    yield '# fp32_nodes = ["name or glob of nodes that stay FP32"]   # trt-harness search-fp32 finds them'
    yield "# tolerance = { expected = 1e-3, limit = 5e-3 }          # mean relative error: warns, fails"
    yield "# [precision.int8]"
    yield '# calibration = { method = "percentile", percentile = 99.99, samples = 32 }'
    yield "#"
    yield "# Labelled data, judged by top-1 or a function of your own:"
    yield "# [task]"
    yield '# metric = "top1"   # or "metric.py:score"'
    yield '# labels = { npz = "samples.npz", member = "labels" }'
    yield "# allowed_drop = 0.01"
    yield "#"
    yield "# [benchmark]"
    yield "# batch_sizes = [1, 8]"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _value(name)


def _value(value: Any) -> str:
    return str(tomlkit.item(value).as_string())


def _table(values: Mapping[str, Any]) -> str:
    return "{ " + ", ".join(f"{_key(key)} = {_value(value)}" for key, value in values.items()) + " }"
