"""What targets refuse, by families: what all refuse is no deployment, what some refuse is a warning."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest

from harness.lowering.deployable import TOLD, Deployment, Refusal
from harness.lowering.refusals import all_refusals
from harness.lowering.targets import FAMILIES, FIRST, NEVER, SINCE, Target, families_before
from harness.options import TARGETS
from tests.helpers.lowering import model


def made(text: str, target: Target = "tensorrt") -> Deployment:
    graph = f"g (float[2,4] x) => (float[2,4] y) {{ {text} }}"
    return Deployment(target, tuple(all_refusals(model(graph))))


def test_targets_are_the_same_words_everywhere() -> None:
    assert get_args(Target) == TARGETS


def test_families_follow_each_other_without_a_gap() -> None:
    assert next(iter(FAMILIES.values()))[0] == FIRST
    ends = list(FAMILIES.values())
    assert all(last < first for (_, last), (first, _) in itertools.pairwise(ends))


@pytest.mark.parametrize("op_type", SINCE)
def test_an_operator_that_some_versions_lack_names_their_families(op_type: str) -> None:
    one = Refusal("r", "w", SINCE[op_type], rtx=False)
    assert one.families == tuple(name for name, (first, _) in FAMILIES.items() if first < SINCE[op_type])
    assert one.families
    assert not one.by("tensorrt")
    assert not SINCE.keys() & NEVER


def test_what_some_families_refuse_is_a_warning_that_names_them() -> None:
    found = made("[n] y = Hardmax(x)")
    assert found.message() == ""
    assert found.warnings() == (
        "TensorRT before 10.0 (families 8.6) refuses: node 'n': Hardmax is known from TensorRT 10.0 on; "
        "compose it of other operators when exporting",
    )
    assert found.caveats() == ("not deployable before TensorRT 10.0",)
    for other in ("tensorrt_rtx", "onnxruntime"):
        assert made("[n] y = Hardmax(x)", other).warnings() == ()  # type: ignore[arg-type]


def test_what_all_refuse_is_told_with_node_reason_and_way_out() -> None:
    found = made("[a] z = Det(x) [b] y = custom.Odd(x)")
    assert found.message() == (
        "tensorrt refuses it:\n"
        "  node 'a': TensorRT has no Det; compose it of other operators when exporting\n"
        "  node 'b': Odd of domain 'custom' needs a plugin; load a plugin for it (build.plugins), or export "
        "without it"
    )
    assert made("[b] y = custom.Odd(x)", "onnxruntime").message() == ""


def test_of_many_refusals_few_are_told_and_the_rest_counted() -> None:
    text = " ".join(f"[d{k}] z{k} = Det(x)" for k in range(TOLD + 4)) + " y = Neg(x)"
    lines = made(text).message().splitlines()
    assert len(lines) == TOLD + 2
    assert lines[-1] == "  and 4 more"


def test_what_only_rtx_refuses_is_its_own() -> None:
    text = "i = NonZero(x) y = Neg(x)"
    assert "TensorRT-RTX lacks" in made(text, "tensorrt_rtx").message()
    assert (made(text).message(), made(text).warnings()) == ("", ())


def test_every_version_lies_in_one_family() -> None:
    assert families_before(FIRST) == ()
    assert families_before((99, 0)) == tuple(FAMILIES)
