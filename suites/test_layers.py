"""Every intermediate tensor against the reference's of the same name: where error is created, and by what.

The plain engine's outputs decide; the layers say why.
"""

import pytest

from harness.records import fails
from harness.verdict.validate import worst


def test_layers(case, question, subject, built, trt_options, answered, worst_task, record, reproduce):
    """Outputs are right where they are worst; if they are not, one failure lists all layers that are not."""
    from harness.layers.case import answer_layers  # brings graph libraries that collecting need not load

    label = f"{case.spec.name}[{case.precision}]"
    at = worst_task.get(case.id) or worst(answered[0]).task
    answer = answer_layers(question, subject, built, trt_options.layer_memory_bytes, at=at)
    verdict = answer.triage.verdict
    message = answer.explain(label, reproduce) if fails(verdict) else ""
    made = record(
        verdict,
        profile=case.spec.profiles[answer.at.profile].name,
        shapes={name: list(shape) for name, shape in answer.shapes.items()},
        data=answer.data(),
        manifest=built.manifest.hash,
        warnings=answer.warnings,
        caveats=answer.caveats,
        message=message,
    )
    if made.fails:
        pytest.fail(message, pytrace=False)
