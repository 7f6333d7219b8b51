"""Models whose outputs are fed to their next step: the error of each step, and what accumulates over many."""

import pytest

from harness.loops.properties import PROPERTIES
from harness.loops.properties import check as check_property
from harness.records import fails
from harness.report.plain import plain


def test_loop(case, loop_question, built, record, reproduce, propose_fp32):
    """Every step is right on the reference's state, and the last one still is on the engine's own."""
    from harness.loops.judge import answer_loop  # brings graph libraries that collecting need not load

    label, answer = f"{case.spec.name}[{case.precision}]", answer_loop(loop_question)
    verdict = answer.triage.verdict
    message = answer.explain(label, reproduce) if fails(verdict) else ""
    made = record(
        verdict,
        data=plain(answer.data()),
        manifest=built.manifest.hash,
        warnings=answer.triage.warnings,
        message=message,
    )
    if made.fails:
        proposal = propose_fp32() if verdict == "precision-limited" else ""
        pytest.fail(message + proposal, pytrace=False)


@pytest.mark.parametrize("name", PROPERTIES)
def test_loop_property(case, name, loop_question, built, record, reproduce):
    """The same sequence cut in another way gives the same; a spec may declare, with the reason, that not."""
    declared = [e.reason for e in case.spec.exceptions if e.property == name]
    if declared:
        record("skipped", kind="metamorphic", data={"property": name}, message=f"declared: {declared[0]}")
        pytest.skip(f"declared in the spec: {declared[0]}")
    outcome = check_property(name, loop_question)
    data = {"property": name, "pairs": len(outcome.found), "mre": outcome.mre, "identical": outcome.identical}
    explained = "" if outcome.holds else outcome.explain(f"{case.spec.name}[{case.precision}]", reproduce)
    made = record(
        "skipped" if outcome.reason else "pass" if outcome.holds else "fail",
        kind="metamorphic",
        data=data,
        manifest=built.manifest.hash,
        message=outcome.reason or explained,
    )
    if outcome.reason:
        pytest.skip(outcome.reason)
    if made.fails:
        pytest.fail(explained, pytrace=False)
