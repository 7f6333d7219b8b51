"""Everything that a run leaves in its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.report import results as results_json
from harness.report import summary
from harness.report.regression.difference import Difference
from harness.report.results import Results


def write_run(
    results: Results, folder: Path, differences: Sequence[Difference] = (), trouble: str = ""
) -> list[Path]:
    """Write every page of a run, atomically each; returns the paths.

    `differences` are those from a baseline; `trouble` says why there is no comparison.  results.json comes
    first: no other page may cost it.
    """
    paths = [results_json.write(results, folder), summary.write(results, folder, differences, trouble)]
    from harness.report.pages import html

    return [*paths, html.write(results, folder, differences, trouble)]
