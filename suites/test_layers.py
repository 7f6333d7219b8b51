"""Every intermediate tensor against the reference's of the same name: where error is created, and by what.

The plain engine's outputs decide; the layers say why.
"""

import pytest

from harness.records import fails


def test_layers(case, question, subject, built, trt_options, record, reproduce):
    """The outputs are within tolerance; if they are not, one failure lists all layers that are not either."""
    from harness.layers.case import answer_layers  # brings graph libraries that collecting need not load

    label = f"{case.spec.name}[{case.precision}]"
    answer = answer_layers(question, subject, built, trt_options.layer_memory_bytes)
    verdict = answer.triage.verdict
    message = answer.explain(label, reproduce) if fails(verdict) else ""
    made = record(
        verdict,
        profile=case.spec.profiles[0].name,
        shapes={name: list(shape) for name, shape in answer.shapes.items()},
        data=answer.data(),
        manifest=built.manifest.hash,
        warnings=answer.warnings,
        message=message,
    )
    if made.fails:
        pytest.fail(message, pytrace=False)
