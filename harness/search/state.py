"""What an FP32 search has evaluated, on disk after every step, so that a stopped search continues."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.search.result import Kept, Step

FORMAT = 1


@dataclass
class State:
    """Errors by set of kept nodes, in one file; `candidates` are the nodes that sets are made of.

    The file belongs to one evaluator: its name is the digest of everything that the errors depend on.
    `trouble` says why a file was not read or could not be written; the search goes on without it.
    """

    path: Path
    candidates: Sequence[str]
    errors: dict[Kept, float] = field(default_factory=dict)
    trouble: str = ""

    @classmethod
    def open(cls, folder: Path, key: Mapping[str, Any], candidates: Sequence[str]) -> State:
        """The state for `key`, with what an earlier search left."""
        text = json.dumps([FORMAT, key, list(candidates)], sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()
        state = cls(folder / f"{name}.json", candidates)
        try:
            state.errors = _parse(state.path.read_text(), candidates)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, IndexError) as error:
            state.trouble = f"{state.path}: not read, the search starts afresh: {error}"
        return state

    def remember(self, step: Step) -> None:
        """Keep one more evaluation."""
        self.errors[step.nodes] = step.mre
        try:
            self._write()
        except OSError as error:
            self.trouble = f"{self.path}: not written, the search cannot be continued later: {error}"

    def _write(self) -> None:
        place = {name: k for k, name in enumerate(self.candidates)}
        rows = [[sorted(place[name] for name in kept), repr(mre)] for kept, mre in self.errors.items()]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle, fresh = tempfile.mkstemp(dir=self.path.parent, prefix=".search-")
        with os.fdopen(handle, "w") as file:
            json.dump(rows, file)
        os.replace(fresh, self.path)


def _parse(text: str, candidates: Sequence[str]) -> dict[Kept, float]:
    """Errors from the file's text.  Raises ValueError, TypeError or IndexError for any other file."""
    return {frozenset(candidates[k] for k in places): float(mre) for places, mre in json.loads(text)}
