"""The proof on the real engine: asked where the engine is no emulation, of few nodes, and told."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from harness.backends.onnxruntime.backend import OnnxRuntimeBackend
from harness.engines.subject import Subject
from harness.precision import Precision, PrecisionPlan
from harness.search.case import Request, propose
from harness.search.proof import FEW, spare_nodes
from harness.search.words import explain
from harness.spec.file import read_spec
from harness.storage.cache import Cache
from tests.helpers.project import write_case

WEIGHT = [[3e4, 1], [1, 3e4], [1, 1], [1, 1]]


class Other(OnnxRuntimeBackend):
    """A backend that is not the CPU provider, though it computes as that does."""

    def info(self):
        return replace(super().info(), provider="OtherProvider")


def test_an_engine_that_needs_every_node_is_told_so(tmp_path):
    spec = read_spec(write_case(tmp_path / "net", precisions=("fp16",), extra="", weight=WEIGHT))
    found = propose(Subject(spec, Other(), Cache(tmp_path / "cache")), Request(Precision.FP16))
    assert found.found
    assert found.spare == ()
    assert "  the engine needs each of them: built without any one, it fails" in explain(found, 1.0, "again")
    nothing = "  nothing is left that fp16 would change: deploy the model in fp32"
    assert nothing in explain(found, 1.0, "again")
    assert nothing not in explain(replace(found, candidates=found.candidates + 1), 1.0, "again")


def asked(passing, plans):
    def answers(plan):
        plans.append(plan.fp32_nodes)
        return iter([plan.fp32_nodes in passing, plan.fp32_nodes in passing])

    return answers


def subject(provider):
    return SimpleNamespace(backend=SimpleNamespace(info=lambda: SimpleNamespace(provider=provider)))


def test_a_node_that_the_engine_does_without_is_named():
    plans = []
    plan = PrecisionPlan(Precision.FP16, ("a", "b", "c"), ("Softmax",))
    assert spare_nodes(subject("CUDAExecutionProvider"), plan, asked([("a", "c")], plans), bool) == ("b",)
    assert plans == [("b", "c"), ("a", "c"), ("a", "b")]


@pytest.mark.parametrize(
    ("provider", "count"),
    [("CPUExecutionProvider", 2), ("CUDAExecutionProvider", 0), ("CUDAExecutionProvider", FEW + 1)],
)
def test_it_is_not_asked_of_the_emulation_or_of_many_nodes(provider, count):
    plan = PrecisionPlan(Precision.FP16, tuple(map(str, range(count))))
    assert spare_nodes(subject(provider), plan, lambda _: pytest.fail("was built"), bool) is None
