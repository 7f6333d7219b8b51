"""Everything that a run leaves in its folder."""

from __future__ import annotations

from pathlib import Path

from harness.report import results as results_json
from harness.report import summary
from harness.report.results import Results

# results.json first: no other page may cost it.
WRITERS = (results_json.write, summary.write)


def write_run(results: Results, folder: Path) -> list[Path]:
    """Write every page of a run, atomically each; returns their paths."""
    return [write(results, folder) for write in WRITERS]
