"""pytest-xdist: GPUs for its workers, engines kept together; a plugin that knows no pytest."""

from __future__ import annotations

import math
import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from harness import processors
from harness.backends.cuda.gpus import Pool, gpu_names, uses_gpus
from harness.isolation import start
from harness.plugin.run import Run
from harness.plugin.selection import Case
from harness.report.collect import case_in
from harness.report.history import latest_in

LAST_RUNS = 3
"""How many runs are asked how long a case took: the last one may have been of a single model."""


def worker_count(backend: str, provider: str | None) -> int | None:
    """What `-n auto` means: a worker for each GPU; where engines run on none, None: xdist decides.

    It knows no limit of a container: with one, it is a worker for each processor of the limit.
    """
    gpus = len(gpu_names()) if uses_gpus(backend, provider) else 0
    return gpus or processors.limited()


class Parallel:
    """Hooks of pytest-xdist's controller for one run of `workers` workers."""

    def __init__(self, run: Run, workers: int) -> None:
        self._run, self._workers = run, workers
        self._groups: dict[str, str] = {}

    @cached_property
    def pool(self) -> Pool:
        """The GPUs and who has them."""
        options = self._run.options
        names = gpu_names() if uses_gpus(options.backend, options.provider) else ()
        return Pool(names, self._workers, processors.allowed())

    def pytest_xdist_setupnodes(self, specs: Iterable[Any]) -> None:
        """Start workers of this machine without the current folder in their path; they get pytest's own."""
        for spec in specs:
            if spec.popen and not spec.python:
                spec.python = shlex.join(start.python())

    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker its GPU before it starts."""
        node.workerinput.update(self.pool.take(node.gateway.id))

    def pytest_testnodedown(self, node: Any) -> None:
        """A worker ended; its GPU is free."""
        self.pool.give_back(node.gateway.id)

    def pytest_xdist_make_scheduler(self, config: Any, log: Any) -> Any:
        """Engines together, where no other way of sharing (`--dist`) was asked for."""
        if config.getvalue("dist") != "load":
            return None
        from harness.plugin.xdist_groups import EngineScheduling

        known = self.seconds()
        models = models_of(self._run.selection.cases, known)
        return EngineScheduling(config, log, self.group, models, known)

    def seconds(self) -> dict[str, float]:
        """Seconds by case id that each case took in the last of the runs in the report folder that had it."""
        collector, found = self._run.collector, dict[str, float]()
        for run in latest_in(collector.folder.parent, LAST_RUNS) if collector else ():
            spent: defaultdict[str, float] = defaultdict(float)
            for test in run.tests:
                spent[self.group(test.nodeid)] += test.duration_s
            found |= spent
        return {one: found[one] for one in self._run.selection.ids if found.get(one)}

    def group(self, nodeid: str) -> str:
        """The case of a test; for others, its file."""
        if nodeid not in self._groups:
            case = case_in(nodeid, self._run.selection.ids)
            self._groups[nodeid] = "-".join(case) if case else nodeid.rpartition("::")[0]
        return self._groups[nodeid]


def models_of(cases: Iterable[Case], seconds: Mapping[str, float] | None = None) -> dict[str, str]:
    """Models' names by case id, in the order in which workers should take them.

    A long one that comes last is waited for: models that no run knows come first, the largest before the
    others, then those that took longest.  `seconds` are known ones by case id.
    """
    known: defaultdict[str, float] = defaultdict(float)
    found = list(cases)
    for case in found:
        known[case.spec.name] += (seconds or {}).get(case.id, 0.0)
    found.sort(key=lambda case: (-(known[case.spec.name] or math.inf), -_model_bytes(case)))
    return {case.id: case.spec.name for case in found}


def _model_bytes(case: Case) -> int:
    from harness.spec.stored import stored_path

    member, onnx = case.spec.model.packaged, case.spec.model.onnx
    path = stored_path(member) if member is not None else case.spec.folder / str(onnx)
    return path.stat().st_size if path.is_file() else 0
