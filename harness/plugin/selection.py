"""Which cases a run has: specs found, precisions chosen, assets there or not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from harness.errors import UsageError
from harness.options import Options
from harness.precision import Precision
from harness.spec.model_spec import ModelSpec


@dataclass(frozen=True, eq=False)
class Case:
    """One model at one precision: what one engine is built from."""

    spec: ModelSpec
    precision: Precision

    @property
    def id(self) -> str:
        """`mnist_cnn-fp16`, as in test ids."""
        return f"{self.spec.name}-{self.precision}"


@dataclass(frozen=True)
class Selection:
    """The cases of a run, every id there would be without narrowing, and the models not fetched yet."""

    cases: tuple[Case, ...] = ()
    ids: frozenset[str] = frozenset()
    not_fetched: tuple[str, ...] = ()

    def case(self, case_id: str) -> Case | None:
        """The case with that id, if it is part of the run."""
        return next((case for case in self.cases if case.id == case_id), None)

    def require(self) -> tuple[Case, ...]:
        """The cases, for a test that asks for them.  Raises UsageError where nothing names any model."""
        if not self.cases and not self.not_fetched:
            raise UsageError("no model to test: set trt_models to folders of specs, or name one: --trt-spec")
        return self.cases

    def models(self) -> dict[str, list[str]]:
        """The precisions of each model that is part of the run, by model name."""
        found: dict[str, list[str]] = {}
        for case in self.cases:
            found.setdefault(case.spec.name, []).append(str(case.precision))
        return found


def select(
    specs: Sequence[ModelSpec], options: Options, fetched: Callable[[ModelSpec], bool] = lambda _: True
) -> Selection:
    """The cases of `specs` that `options` leave.  Raises UsageError where they leave none."""
    _refuse_duplicates(specs)
    wanted = [spec for spec in specs if _named(spec, options.models)]
    if specs and not wanted:
        raise UsageError(f"--trt-model = {list(options.models)}: no such model; there are {_names(specs)}")
    there = {spec.name: fetched(spec) for spec in wanted}
    here = [spec for spec in wanted if there[spec.name]]
    cases = tuple(Case(s, p) for s in here for p in s.precisions if p in (options.precisions or s.precisions))
    if here and not cases:
        asked = ", ".join(options.precisions)
        raise UsageError(f"--trt-precision = {asked}: no selected model lists it; selected: {_names(here)}")
    every = frozenset(Case(s, p).id for s in specs for p in s.precisions)
    return Selection(cases, every, tuple(name for name, found in there.items() if not found))


def load(options: Options, bundled: Iterable[Path]) -> Selection:
    """Read the specs that `options` name, or those in the `bundled` folders.  Raises UsageError."""
    from harness.spec import assets
    from harness.spec import file as spec_file

    if options.specs or options.onnx:
        own = [spec_file.read_spec(path) for path in spec_file.find_specs(options.specs)]
        return select(_overridden(own, options) + _drafted(options), options)
    folders = [folder for folder in bundled if folder.is_dir()]
    specs = [spec_file.read_spec(path) for path in spec_file.find_specs(folders)] if folders else []
    return select(_overridden(specs, options), options, lambda spec: not assets.missing(spec))


def require_folders(named: Iterable[Path]) -> None:
    """Raise UsageError for the first folder of the setting `trt_models` that is none."""
    for folder in named:
        if not folder.is_dir():
            raise UsageError(f"trt_models = {str(folder)!r}: no such folder")


def concerns(arguments: Iterable[Path], bundled: Iterable[Path]) -> bool:
    """Whether a run with these path arguments touches the suites that lie around the `bundled` folders."""
    suites = [folder.parent for folder in bundled if folder.is_dir()]
    return any(a == s or s in a.parents or a in s.parents for a in arguments for s in suites)


def _overridden(specs: list[ModelSpec], options: Options) -> list[ModelSpec]:
    """The specs with `--trt-data`, `--trt-shape` and `--trt-tolerance` in those that the run selects."""
    if not (options.data or options.shapes or options.tolerance):
        return specs
    from harness.data.override import Override

    override = Override.parse(options.data, options.shapes, options.tolerance)
    return [override.applied(spec) if _named(spec, options.models) else spec for spec in specs]


def _drafted(options: Options) -> list[ModelSpec]:
    """Specs for `--trt-onnx`, of the precisions that are asked for: nobody listed any."""
    if not options.onnx:
        return []
    from harness.data.override import Override
    from harness.drafting.resolve import resolve

    override = Override.parse(options.data, options.shapes, options.tolerance)
    return [resolve(file, replace(override, precisions=options.precisions)) for file in options.onnx]


def _named(spec: ModelSpec, patterns: Sequence[str]) -> bool:
    return not patterns or any(spec.name == p or fnmatchcase(spec.name, p) for p in patterns)


def _names(specs: Iterable[ModelSpec]) -> str:
    return ", ".join(f"{spec.name} ({', '.join(spec.precisions)})" for spec in specs)


def _refuse_duplicates(specs: Sequence[ModelSpec]) -> None:
    seen: dict[str, ModelSpec] = {}
    for spec in specs:
        if spec.name in seen:
            raise UsageError(f"{spec.path}: name = {spec.name!r}: also the name of {seen[spec.name].path}")
        seen[spec.name] = spec
