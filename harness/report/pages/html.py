"""report.html: a whole run in one file that needs no network and no server."""

from __future__ import annotations

import base64
import gzip
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from harness import __version__
from harness.report.changes import ORDER, SEEN, counts
from harness.report.pages import payload
from harness.report.plain import plain, write_text
from harness.report.regression.difference import Difference
from harness.report.results import Results

REPORT = "report.html"
SHOWN_DIFFERENCES = 500
SHOWN_COLUMNS = 64
"""Columns of the table of verdicts, which has a cell for each of them and each model; no run has as many."""

GLYPHS: Mapping[str, str] = {
    "pass": "✓",
    "skipped": "-",
    "unverified": "?",
    "undecided": "?",
    "precision-limited": "◐",
    "fail": "✗",
    "engine-suspect": "✗",
    "reference-limited": "◑",
    "not-deployable": "⊘",
    "export-suspect": "✗",
    "error": "!",
}


def write(results: Results, folder: Path, differences: Sequence[Difference] = (), trouble: str = "") -> Path:
    """Write report.html into `folder`, atomically."""
    return write_text(folder / REPORT, page(results, differences, trouble))


def page(results: Results, differences: Sequence[Difference] = (), trouble: str = "") -> str:
    """The page of a run, or of a merged one, and what differs from a baseline, or why that is not known."""
    models = payload.models(results.records)
    every, listed = _columns(models), _listed(differences)
    columns = every[:SHOWN_COLUMNS]
    data = {
        "models": models,
        "columns": {
            "layers": payload.LAYER_COLUMNS,
            "outputs": payload.OUTPUT_COLUMNS,
            "latency": payload.LATENCY_COLUMNS,
        },
        "glyphs": GLYPHS,
    }
    return render(
        "report.html",
        data,
        results=results,
        models=models,
        columns=columns,
        hidden_columns=len(every) - len(columns),
        cells=[_cells(model, columns) for model in models],
        counts=payload.counts(results.records),
        glyphs=GLYPHS,
        differences=listed[:SHOWN_DIFFERENCES],
        hidden_differences=len(listed[SHOWN_DIFFERENCES:]),
        trouble=trouble,
        difference_counts=counts(differences) if differences else "",
        environments=_environments(results),
        tests=_tests(results),
    )


def render(template: str, data: Mapping[str, Any], **values: Any) -> str:
    """A template of this package with `data` embedded for its script, and everything escaped."""
    found = _templates().get_template(template)
    return found.render(data=embedded(data), plotly=_plotly(), version=__version__, **values)


def embedded(data: Any) -> Markup:
    """Strict JSON that no HTML parser can leave: `<`, `>` and `&` are escapes."""
    text = json.dumps(plain(data), allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


@cache
def _templates() -> jinja2.Environment:
    loader = jinja2.PackageLoader("harness.report.pages", "templates")
    found = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    # The package's own style and scripts go in as they are; everything else is escaped.
    found.globals["asset"] = lambda name: Markup(_asset(name))
    found.filters["short"] = short_name
    return found


def short_name(text: str, limit: int = 60) -> str:
    """`text` on one line, cut in the middle to `limit` characters."""
    line = "".join(c if c.isprintable() else " " for c in text)
    half = (limit - 1) // 2
    return line if len(line) <= limit else f"{line[:half]}…{line[-half:]}"


def _asset(name: str) -> str:
    return (resources.files("harness.report.pages") / "templates" / name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    """Plotly's own bundle, compressed: the page unpacks it when the first plot is drawn."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()


def _columns(models: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Backend, run and precision of the matrix's columns, in the order in which they first appear."""
    found = {(c["backend"], c["run"], c["precision"]): None for model in models for c in model["cases"]}
    order = list(dict.fromkeys(key[:2] for key in found))
    return sorted(found, key=lambda key: order.index(key[:2]))


def _cells(model: Mapping[str, Any], columns: Sequence[tuple[str, str, str]]) -> list[Any]:
    cases = {(case["backend"], case["run"], case["precision"]): case for case in model["cases"]}
    return [cases.get(column) for column in columns]


def _listed(differences: Sequence[Difference]) -> list[Difference]:
    shown = [difference for difference in differences if difference.status in SEEN]
    return sorted(shown, key=lambda d: (ORDER.index(d.status), d.key))


def _environments(results: Results) -> list[tuple[str, list[tuple[str, str]]]]:
    """Name of a run and its environment as pairs of words; several for a merged one."""
    runs = results.environment.get("runs")
    if isinstance(runs, Mapping):
        return [(name, _pairs(head.get("environment", {}))) for name, head in runs.items()]
    return [(results.run, _pairs({**results.environment, "command": " ".join(results.command)}))]


def _pairs(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(str(key), _words(value)) for key, value in values.items() if value not in (None, "", {})]


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return str(value)


def _tests(results: Results) -> dict[str, int]:
    return dict(Counter(test.outcome for test in results.tests))
