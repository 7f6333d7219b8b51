"""The task metric on labelled data: what users of the model would notice."""

import pytest


def test_accuracy(case, accuracy, built, record, reproduce):
    """The engine's metric is below the reference's by no more than the spec allows."""
    message = "" if accuracy.passes else accuracy.explain(f"{case.spec.name}[{case.precision}]", reproduce)
    verdict = "pass" if accuracy.passes else "fail"
    record(verdict, data=accuracy.data(), message=message, manifest=built.manifest.hash)
    if message:
        pytest.fail(message, pytrace=False)
