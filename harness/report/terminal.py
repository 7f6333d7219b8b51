"""The short table at the end of a run in the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.comparison.explain import apart
from harness.report.overview import Row

HEAD = ("model", "precision", "verdict", "mre", "limit", "task drop", "build", "p50", "but")


def table(rows: Iterable[Row]) -> list[str]:
    """Aligned lines, a heading first."""
    lines = [HEAD] + [cells(row) for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    return ["  ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)).rstrip() for line in lines]


def cells(row: Row) -> Sequence[str]:
    """The words of one row, in the order of HEAD."""
    build = "cached" if row.cached else seconds(row.build_s)
    noun = "warning" if row.warnings == 1 else "warnings"
    verdict = f"{row.verdict}, {row.warnings} {noun}" if row.warnings else row.verdict
    drop = "" if row.drop is None else f"{row.drop:+.4f}"
    name, but = one_line(row.model), one_line("; ".join(row.caveats), 200)
    mre, limit = sci(row.mre), sci(row.limit)
    if row.mre is not None and row.limit is not None:
        mre, limit = apart(row.mre, row.limit)
    return (name, row.precision, verdict, mre, limit, drop, build, seconds(row.p50_s), but)


def sci(value: float | None) -> str:
    """`3.1e-03`, or nothing."""
    return "" if value is None else f"{value:.1e}"


def seconds(value: float | None) -> str:
    """A duration with a unit that fits it, or nothing."""
    if value is None:
        return ""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value / 1e-6:.1f} us"


def one_line(text: str, limit: int = 60) -> str:
    """`text` without control characters, cut to `limit` characters."""
    clean = "".join(c if c.isprintable() else "?" for c in text)
    return clean if len(clean) <= limit else clean[: limit - 3] + "..."
