"""How pytest-xdist's workers share a run.

All tests of one engine go to one worker, which builds it once.  A worker stays with a model, whose
normalised graph, data and reference it has in memory, as long as it has engines that are not given out;
then it takes a model that no worker has, and when there is none, it helps with the one that has most left, in
seconds where an earlier run tells them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from statistics import fmean
from typing import Any

from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

Group = Callable[[str], str]


class EngineScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Groups by engine: `group` gives the group of a test, `models` the model of a group, in order of need.

    `seconds` are what groups are known to take; the others are taken to be like them.

    1. A worker gets its next group when one test of its last is left, because a worker begins a test only
       when it knows the next.
    2. A test in which a worker crashed is not run again; the others of its group are.
    """

    collection: list[str] | None

    def __init__(
        self,
        config: Any,
        log: Any,
        group: Group,
        models: Mapping[str, str] | None = None,
        seconds: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(config, log)
        self._group, self._models, self._seconds = group, models or {}, seconds or {}
        self._usual = fmean(self._seconds.values()) if self._seconds else 1.0
        self._rank = {name: rank for rank, name in enumerate(self._models)}
        self._has: dict[WorkerController, str] = {}

    def _split_scope(self, nodeid: str) -> str:
        return self._group(nodeid)

    def schedule(self) -> None:
        """Give every worker its first groups; later, give a worker that has come since its own."""
        assert self.collection_is_completed
        if self.collection is None:
            if not self._check_nodes_have_same_collection():
                return
            collected: list[str] = list(next(iter(self.registered_collections.values())))
            self.collection = collected
            self._queue_all(collected)
            for node in self.nodes:
                if self.workqueue:
                    self._assign_work_unit(node)
        for node in self.nodes:
            self._reschedule(node)

    def _queue_all(self, nodeids: Iterable[str]) -> None:
        units: dict[str, dict[str, bool]] = {}
        for nodeid in nodeids:
            units.setdefault(self._group(nodeid), {})[nodeid] = False
        last = len(self._rank)
        for name in sorted(units, key=lambda one: self._rank.get(one, last)):
            self.workqueue[name] = units[name]

    def _assign_work_unit(self, node: WorkerController) -> None:
        name = self._next_for(node)
        self._has[node] = self._model(name)
        self.workqueue.move_to_end(name, last=False)
        super()._assign_work_unit(node)

    def _next_for(self, node: WorkerController) -> str:
        queue: list[str] = list(self.workqueue)
        left: defaultdict[str, float] = defaultdict(float)
        for name in queue:
            left[self._model(name)] += self._seconds.get(name, self._usual)
        wanted = self._has.get(node)
        if wanted not in left:
            taken = set(self._has.values())
            wanted = next((model for model in left if model not in taken), None) or max(
                left, key=left.__getitem__
            )
        return next(name for name in queue if self._model(name) == wanted)

    def _model(self, group: str) -> str:
        return self._models.get(group, group)

    def _reschedule(self, node: WorkerController) -> None:
        if node.shutting_down:
            return
        while self.workqueue and self._pending_of(self.assigned_work[node]) <= 1:
            self._assign_work_unit(node)
        if not self.workqueue:
            node.shutdown()

    def remove_node(self, node: WorkerController) -> str | None:
        """Take a worker out; the test in which it crashed, if it did.  What it left goes to others."""
        self._has.pop(node, None)
        units = self.assigned_work[node]
        left: list[tuple[dict[str, bool], str]] = [
            (unit, nodeid) for unit in units.values() for nodeid, done in unit.items() if not done
        ]
        if left:
            unit, crashed = left[0]
            unit[crashed] = True
        for name in [name for name, unit in units.items() if all(unit.values())]:
            del units[name]
        super().remove_node(node)
        return left[0][1] if left else None
