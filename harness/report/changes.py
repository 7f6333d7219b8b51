"""Differences against a baseline as lines for a terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from harness.report.baseline import Difference, Status

ORDER: tuple[Status, ...] = (
    "regression", "undecided", "not comparable", "gone", "new", "improvement", "same",
)  # fmt: skip


SEEN: frozenset[Status] = frozenset({"regression", "undecided", "not comparable", "improvement"})
"""What can be seen only where both sides were measured."""
CHANGED: frozenset[Status] = SEEN | {"gone", "new"}


def lines(found: Sequence[Difference], shown: Collection[Status] = CHANGED) -> list[str]:
    """A count of each status, then one line a difference with a status that is `shown`, regressions first."""
    listed = [difference for difference in _sorted(found) if difference.status in shown]
    return [counts(found), *(f"{difference.status}: {one_line(difference)}" for difference in listed)]


def counts(found: Iterable[Difference]) -> str:
    """`2 regressions, 1 new, 14 same`, or that nothing could be compared."""
    statuses = [difference.status for difference in found]
    said = [f"{statuses.count(status)} {_plural(status, statuses)}" for status in ORDER if status in statuses]
    return "against the baseline: " + (", ".join(said) or "no case to compare")


def regressions(found: Iterable[Difference]) -> list[Difference]:
    """Those that fail a run, by case."""
    return [difference for difference in _sorted(found) if difference.status == "regression"]


def one_line(difference: Difference, limit: int = 500) -> str:
    """The difference on one line, whatever is in its names; cut in the middle to `limit` characters."""
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(difference))
    half = (limit - 3) // 2
    return text if len(text) <= limit else f"{text[:half]}...{text[-half:]}"


def _plural(status: str, statuses: Sequence[str]) -> str:
    return status + "s" * (status in ("regression", "improvement") and statuses.count(status) > 1)


def _sorted(found: Iterable[Difference]) -> list[Difference]:
    return sorted(found, key=lambda difference: (ORDER.index(difference.status), difference.key))
