"""Differences against a baseline as lines for a terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from harness.report.keys import CaseKey
from harness.report.regression.difference import MISSING, Difference, Status

ORDER: tuple[Status, ...] = (
    "regression", "gone", "renamed", "skipped", "undecided", "not comparable", "allowed", "new",
    "improvement", "same",
)  # fmt: skip


SEEN: frozenset[Status] = frozenset({"regression", "undecided", "not comparable", "improvement"})
"""What can be seen only where both sides were measured."""
CHANGED: frozenset[Status] = SEEN | MISSING | {"new", "allowed"}


def lines(found: Sequence[Difference], shown: Collection[Status] = CHANGED) -> list[str]:
    """A count of each status, then one line a difference with a status that is `shown`, regressions first.

    An engine that one side alone has is one line, not a line for each of its shapes.
    """
    listed = [difference for difference in _sorted(found) if difference.status in shown]
    return [counts(found), *dict.fromkeys(f"{d.status}: {one_line(d)}" for d in _merged(found, listed))]


def _merged(found: Iterable[Difference], listed: Iterable[Difference]) -> list[Difference]:
    """`listed`, where those of an engine of one side alone are told by the engine's own name."""
    statuses: dict[CaseKey, set[Status]] = {}
    for one in found:
        statuses.setdefault(_engine(one.key), set()).add(one.status)
    alone = {engine for engine, of_it in statuses.items() if of_it in ({"gone"}, {"new"})}
    return [replace(one, key=_engine(one.key)) if _engine(one.key) in alone else one for one in listed]


def _engine(key: CaseKey) -> CaseKey:
    return replace(key, kind="engine", profile="", shapes="{}")


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
