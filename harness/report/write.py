"""Everything that a run leaves in its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.report import results as results_json
from harness.report import summary
from harness.report.baseline import Difference
from harness.report.results import Results


def write_run(results: Results, folder: Path, differences: Sequence[Difference] = ()) -> list[Path]:
    """Write every page of a run, atomically each, with its `differences` from a baseline; returns the paths.

    results.json comes first: no other page may cost it.
    """
    paths = [results_json.write(results, folder), summary.write(results, folder, differences)]
    from harness.report import html

    return [*paths, html.write(results, folder, differences)]
