"""Every output of every engine, at min, opt and max of every profile and at shapes between, on real data."""

import pytest

from harness.report.plain import plain
from harness.validate import answers, explain


def test_outputs(case, question, built, record, reproduce):
    """All outputs are within tolerance of the FP32 reference at all shapes; one failure tells all."""
    label, found = f"{case.spec.name}[{case.precision}]", []
    for answer in answers(question):
        found.append(answer)
        record(
            answer.triage.verdict,
            profile=answer.profile,
            shapes={name: list(shape) for name, shape in answer.shapes.items()},
            data=plain(answer.data()),
            manifest=built.manifest.hash,
            warnings=answer.triage.warnings,
            message="" if answer.triage.verdict == "pass" else explain(label, [answer], reproduce),
        )
    if any(answer.triage.verdict != "pass" for answer in found):
        pytest.fail(explain(label, found, reproduce), pytrace=False)
