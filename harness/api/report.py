"""What `validate` returns: the records of a run, a verdict for each precision, and the pages to save."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

from harness.records import Record, Verdict
from harness.report.overview import Row, overview
from harness.report.results import Results
from harness.report.terminal import table
from harness.report.write import write_run


@dataclass(frozen=True)
class Report:
    """One validated model; true if every precision passes, or fails by a verdict that was let through.

    `results`: the whole run, as results.json has it.
    """

    results: Results

    @cached_property
    def rows(self) -> Mapping[str, Row]:
        """Worst verdict and figures (`mre`, `limit`, `drop`, `p50_s`) by precision."""
        return {row.precision: row for row in overview(self.results.records)}

    @property
    def verdicts(self) -> Mapping[str, Verdict]:
        """The worst verdict by precision: `pass`, `precision-limited`, `engine-suspect`..."""
        return {precision: cast("Verdict", row.verdict) for precision, row in self.rows.items()}

    @property
    def records(self) -> tuple[Record, ...]:
        """Everything that was checked, one record each."""
        return self.results.records

    def __bool__(self) -> bool:
        fine = ("pass", *self.results.options.get("allow", ()))
        return bool(self.rows) and all(verdict in fine for verdict in self.verdicts.values())

    def __str__(self) -> str:
        return "\n".join(table(self.rows.values()))

    def explain(self) -> str:
        """The table of verdicts, then each failure in full, and each warning."""
        told = dict.fromkeys(record.message for record in self.records if record.message)
        warned = dict.fromkeys(f"warning: {text}" for record in self.records for text in record.warnings)
        return "\n\n".join([str(self), *told, *warned])

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write report.html, results.json and summary.md into `folder`; returns it.  Raises OSError."""
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        write_run(self.results, place)
        return place
