"""What a baseline has and a run has not, which is not green: gone, renamed, skipped, cut short.

1. A case of the baseline that the run has no record of is `gone`; `skipped`, with the reason, where a test
   of it was.
2. A model that is gone while a new one has the same graph and weights (`hashes.model` of the engines'
   manifests) is `renamed`, and both names are said.
3. What the user means to leave out is `allowed`: a glob that matches the model, or the case as it is printed.
4. A latency of another machine is `not comparable` and fails nothing by itself: a new driver is no loss, and
   accuracy is compared all the same.  Where nothing at all was compared, that is said, and fails.
5. A run that was killed says during which test.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from harness.records import Record
from harness.report.keys import CaseKey
from harness.report.regression.difference import COMPARED, MISSING, Difference
from harness.report.results import UNFINISHED, Results

NAMED = 3
"""How many tests, or names, a sentence lists."""


def explained(
    found: Iterable[Difference], base: Sequence[Record], new: Sequence[Record], allowed: Sequence[str] = ()
) -> list[Difference]:
    """`found` with the reason of every case that is gone, and those that `allowed` names marked so."""
    skipped, renamed = _skipped(new), _renamed(base, new)
    return [_allowed(_reason(one, skipped, renamed), allowed) for one in found]


def losses(found: Iterable[Difference]) -> list[Difference]:
    """Those that fail a run because nothing was compared."""
    return [difference for difference in found if difference.status in MISSING]


def troubles(base: Sequence[Record], found: Sequence[Difference], runs: Iterable[Results] = ()) -> list[str]:
    """Why the comparison as a whole says less than it seems to, a sentence each."""
    said = [text for run in runs if (text := cut_short(run))]
    if base and not any(one.status in COMPARED for one in found):
        said.append("nothing was compared: the baseline and the run share no case")
    return said


def cut_short(run: Results) -> str:
    """That a run did not end by itself, and during which tests; empty where it did."""
    if run.complete:
        return ""
    during = [test.nodeid for test in run.tests if test.message == UNFINISHED]
    where = f" during {', '.join(during[:NAMED])}" if during else ""
    more = f" and {len(during) - NAMED} more" if len(during) > NAMED else ""
    return f"run {run.run} was cut short{where}{more}: {len(run.tests)} tests are known of"


def _reason(
    one: Difference, skipped: Mapping[tuple[str, str, str], str], renamed: Mapping[str, str]
) -> Difference:
    key = one.key
    if one.status == "new" and key.model in renamed.values():
        old = next(name for name, new in renamed.items() if new == key.model)
        return replace(one, text=f"is not in the baseline, where the same model is called {old!r}")
    if one.status != "gone":
        return one
    if key.model in renamed:
        return replace(one, status="renamed", text=f"the same model is now called {renamed[key.model]!r}")
    if (why := skipped.get((key.model, key.precision, key.kind))) is not None:
        return replace(one, status="skipped", text=f"is skipped: {why}")
    return one


def _allowed(one: Difference, allowed: Sequence[str]) -> Difference:
    meant = one.status in MISSING and any(_matches(one.key, pattern) for pattern in allowed)
    return replace(one, status="allowed") if meant else one


def _matches(key: CaseKey, pattern: str) -> bool:
    names = (key.model, f"{key.model}-{key.precision}", f"{key.model}-{key.precision} {key.kind}", str(key))
    return any(fnmatchcase(name, pattern) for name in names)


def _skipped(records: Iterable[Record]) -> dict[tuple[str, str, str], str]:
    return {(r.model, r.precision, r.kind): r.message for r in records if r.verdict == "skipped"}


def _renamed(base: Sequence[Record], new: Sequence[Record]) -> dict[str, str]:
    """New name by old name, of models that are the same and known under one name on either side."""
    old_names, new_names = dict(_digests(base)), dict(_digests(new))
    here = {record.model for record in new}
    fresh = {digest: name for name, digest in new_names.items() if name not in old_names}
    gone = {name: digest for name, digest in old_names.items() if name not in here}
    return {name: fresh[digest] for name, digest in gone.items() if digest in fresh}


def _digests(records: Iterable[Record]) -> Iterator[tuple[str, str]]:
    for record in records:
        manifest = record.data.get("manifest") if record.kind == "engine" else None
        hashes = manifest.get("hashes") if isinstance(manifest, Mapping) else None
        if isinstance(hashes, Mapping) and isinstance(digest := hashes.get("model"), str):
            yield record.model, digest
