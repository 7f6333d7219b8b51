"""Everything that a user can have got wrong, found before the first engine is built."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx_ir as ir

from harness.data.inputs import Feeds, calibration_data
from harness.data.vocabulary import check_indices
from harness.errors import ModelError
from harness.graph import file as onnx_file
from harness.graph.walk import all_nodes
from harness.lowering.passes.normalise import normalise
from harness.lowering.refusals import check_reference
from harness.options import Options
from harness.plugin.selection import Case
from harness.spec.assets import asset_paths, model_path
from harness.spec.check import check_against_model
from harness.spec.model_spec import ModelSpec
from harness.spec.user_code import refuse_code
from harness.tasks.accuracy import task_of


def check(cases: Iterable[Case], options: Options) -> None:
    """Check each spec of `cases` against its model, assets, data and labels.  Raises UsageError, one line."""
    for spec in {case.spec.name: case.spec for case in cases}.values():
        check_spec(spec, options)


def check_spec(spec: ModelSpec, options: Options) -> None:
    """Check one spec.  Raises UsageError, one line."""
    if not options.allow_code:
        refuse_code(spec)
    asset_paths(spec)
    path = model_path(spec)
    original = onnx_file.read(path)
    model = _normalised(path, original)
    check_against_model(spec, model, original)
    for feeds in _every_data(spec, options.allow_code):
        for profile in spec.profiles:
            feeds.feed(profile.at("min"))
        if not any(node.op_type == "IsNaN" for node in all_nodes(model.graph)):
            feeds.require_numbers()
        check_indices(spec, model, feeds)
    task_of(spec, tuple(str(value.name) for value in model.graph.outputs), allow_code=options.allow_code)


def _every_data(spec: ModelSpec, allow_code: bool) -> Iterator[Feeds]:
    yield Feeds(spec, allow_code)
    for precision in spec.precisions:
        if precision.quantized and spec.of(precision).calibration.data:
            yield calibration_data(spec, precision, allow_code=allow_code)


def _normalised(path: Path, model: ir.Model) -> ir.Model:
    try:
        normalised = normalise(model)
        check_reference(normalised)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    return normalised
