"""Everything that a run leaves in its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.report import results as results_json
from harness.report import summary
from harness.report.records import Record
from harness.report.results import Results


def write_run(results: Results, folder: Path, baseline: Sequence[Record] = ()) -> list[Path]:
    """Write every page of a run, atomically each; returns their paths.

    results.json comes first: no other page may cost it.
    """
    paths = [results_json.write(results, folder)]
    from harness.report import html
    from harness.report.baseline import diff

    models = {record.model for record in results.records}
    differences = diff([record for record in baseline if record.model in models], results.records)
    differences = differences if baseline else []
    paths.append(summary.write(results, folder, differences))
    return [*paths, html.write(results, folder, differences)]
