"""Properties of a right engine that need no reference: they find what one comparison can pass over."""

import pytest

from harness.verdict.metamorphic import PROPERTIES, check


@pytest.mark.parametrize("name", PROPERTIES)
def test_metamorphic(case, name, metamorphic_trials, built, record, reproduce, request):
    """The property holds on every profile; a spec may declare, with the reason, that it does not."""
    label = f"{case.spec.name}[{case.precision}]"
    declared = [e.reason for e in case.spec.exceptions if e.property == name]
    if declared:
        record("skipped", data={"property": name}, message=f"declared in the spec: {declared[0]}")
        pytest.skip(f"declared in the spec: {declared[0]}")
    found = [(trial, check(name, trial)) for trial in metamorphic_trials]
    builds = {"plan_identical": plan_identical(request, built)} if name == "rebuild" else {}
    for trial, outcome in found:
        data = {
            "property": name,
            "pairs": len(outcome.found),
            "mre": outcome.mre,
            "identical": outcome.identical,
            **builds,
        }
        record(
            "skipped" if outcome.reason else "pass" if outcome.holds else "fail",
            profile=case.spec.profiles[trial.profile].name,
            data=data,
            manifest=built.manifest.hash,
            message=outcome.reason or ("" if outcome.holds else outcome.explain(label, reproduce)),
        )
    failed = [outcome for _, outcome in found if not outcome.holds]
    if failed:
        pytest.fail(failed[0].explain(label, reproduce), pytrace=False)
    if all(outcome.reason for _, outcome in found):
        pytest.skip(found[0][1].reason)


def plan_identical(request, built):
    """Whether the second build is the same to the byte; builders that time tactics may well choose others."""
    from harness.engines.variants import same_plan  # brings graph libraries that collecting need not load

    return same_plan(built, request.getfixturevalue("second_build"))
