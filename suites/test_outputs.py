"""Every output of every engine, at every kind of shape that a profile allows, on real data."""

import pytest

from harness.records import fails
from harness.report.plain import plain
from harness.verdict.validate import explain


def test_outputs(case, answered, built, record, reproduce, propose_fp32):
    """All outputs are within tolerance of the FP32 reference at all shapes; one failure tells all."""
    label, kept, (found, refused) = f"{case.spec.name}[{case.precision}]", [], answered
    for answer in found:
        made = record(
            answer.triage.verdict,
            profile=answer.profile,
            shapes={name: list(shape) for name, shape in answer.shapes.items()},
            data=plain(answer.data()),
            manifest=built.manifest.hash,
            warnings=answer.triage.warnings,
            caveats=answer.triage.caveats,
            message=explain(label, [answer], reproduce) if fails(answer.triage.verdict) else "",
        )
        kept.append(made)
    for one in refused:
        shapes = {name: list(shape) for name, shape in one.shapes.items()}
        record("skipped", profile=one.profile, shapes=shapes, message=f"the model refuses: {one.reason}")
    if any(made.fails for made in kept):
        proposal = propose_fp32() if "precision-limited" in {made.verdict for made in kept} else ""
        pytest.fail(explain(label, found, reproduce) + proposal, pytrace=False)
