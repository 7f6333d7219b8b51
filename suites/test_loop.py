"""Models whose outputs are fed to their next step: the error of each step, and what accumulates over many."""

import pytest

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
