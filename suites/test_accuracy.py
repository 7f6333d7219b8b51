"""The task metric on labelled data, what users of the model would notice; and every output that it takes."""

import pytest

from harness.records import fails


def test_accuracy(case, accuracy, watched, question, built, record, reproduce, worst_task):
    """The metric is below the reference's by no more than the spec allows; all outputs are right."""
    from harness.verdict.validate import answer, explain  # brings NumPy, which collecting need not load

    label, seen = f"{case.spec.name}[{case.precision}]", watched.finish()
    verdict, message = ("pass", "") if accuracy.passes else ("fail", accuracy.explain(label, reproduce))
    if seen.worst is not None:
        found = answer(question, seen.worst)
        worst_task[case.id] = found.task
        if not message and fails(found.triage.verdict):
            verdict, message = found.triage.verdict, f"{explain(label, [found], reproduce)}\n  {seen}"
    data = {**accuracy.data(), "compared": seen.data()}
    made = record(verdict, data=data, message=message, manifest=built.manifest.hash)
    if made.fails:
        pytest.fail(message, pytrace=False)
