"""Functions that a spec names as `file.py:function`: loaders and metrics, run only if the user allows it."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.errors import DataError, SpecError, UsageError
from harness.paths import no_file
from harness.spec.errors import one_line
from harness.spec.file import data_sources
from harness.spec.model_spec import ModelSpec


def load_function(
    spec: ModelSpec, key: str, reference: str, *, allow_code: bool = True
) -> Callable[..., Any]:
    """The function that `reference` names; `key` is what errors call it.

    The file must lie in the spec's folder, links followed.  Raises SpecError, and UsageError where code is
    not allowed.
    """
    file_name, _, function = reference.rpartition(":")
    where = spec.path or spec.name
    if not allow_code:
        raise UsageError(f"{where}: {key} = {reference!r}: runs Python code, which --trt-no-code refuses")
    file, folder = (spec.folder / file_name).resolve(), spec.folder.resolve()
    if not file.is_relative_to(folder):
        raise SpecError(where, key, reference, "the file must lie in the spec's folder")
    if rule := no_file(file):
        raise SpecError(where, key, reference, f"{rule} (paths start from the spec's folder)")
    found = getattr(_module(file, where, key), function, None)
    if not callable(found):
        raise SpecError(where, key, reference, f"the file has no function {function!r}")
    return _checked(found, f"{where}: {key} = {reference!r}")


def code_in(spec: ModelSpec) -> Iterator[tuple[str, str, str]]:
    """Dotted key and value of everything in `spec` that may run code, and what it does."""
    python = "runs Python code"
    for key, source in data_sources(spec):
        if source.loader is not None:
            yield f"{key}.loader", source.loader, python
    if spec.task is not None and spec.task.metric != "top1":
        yield "task.metric", spec.task.metric, python
    if spec.loop is not None and spec.loop.tokens is not None and spec.loop.tokens.choose != "argmax":
        yield "loop.tokens.choose", spec.loop.tokens.choose, python
    if spec.model.network is not None:
        yield "model.network", spec.model.network, python
    for index, plugin in enumerate(spec.build.plugins):
        yield f"build.plugins[{index}]", plugin, "loads a shared library"
    if spec.model.engine is not None:
        yield "model.engine", spec.model.engine, "loads a finished engine, which holds machine code"


def refuse_code(spec: ModelSpec) -> None:
    """Raise UsageError, one line, for the first thing in `spec` that may run code."""
    for key, value, why in code_in(spec):
        raise UsageError(f"{spec.path or spec.name}: {key} = {value!r}: {why}, which --trt-no-code refuses")


def call_loader(function: Callable[..., Any], assets: Callable[[], Mapping[str, Path]]) -> Any:
    """What a loader returns: called with nothing, or with the paths of the spec's assets by name."""
    return function(assets()) if inspect.signature(function).parameters else function()


@lru_cache(maxsize=64)
def _module(file: Path, where: object, key: str) -> ModuleType:
    name = f"trt_harness_user_{abs(hash(file)):x}_{file.stem}"
    found = importlib.util.spec_from_file_location(name, file)
    if found is None or found.loader is None:
        raise SpecError(where, key, file.name, "is no Python file")
    module = importlib.util.module_from_spec(found)
    _checked(found.loader.exec_module, f"{where}: {key}: importing {file.name}")(module)
    return module


def _checked(function: Callable[..., Any], context: str) -> Callable[..., Any]:
    """`function`, with whatever it raises told as a DataError that names `context`."""

    def call(*args: Any) -> Any:
        try:
            return function(*args)
        except UsageError:
            raise
        except (Exception, SystemExit) as error:
            raise DataError(f"{context}: raised {type(error).__name__}: {one_line(error)}") from error

    call.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return call
