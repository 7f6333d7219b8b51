"""A search as the suites run it: what is recorded, proposed and said."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from harness.errors import UsageError
from harness.precision import TOLERANCES, Precision, PrecisionPlan
from harness.records import Record
from harness.report import proposals
from harness.report.summary import lines as summary_lines
from harness.search import proposal as fp32_proposal
from harness.search.case import Proposal
from harness.search.proposal import search_case
from harness.search.result import Point, SearchResult
from tests.helpers.results import run as run_of

RESULT = SearchResult(
    tolerance=5e-3, nodes=("a", "b*"), before=float("inf"), after=1e-3, evaluations=7, minimal=True,
    curve=(Point(0, float("inf")), Point(2, 1e-3)),
)  # fmt: skip
PROPOSAL = Proposal(
    "net", Precision.FP16, PrecisionPlan(Precision.FP16, ("a", "b[*]")), RESULT, 9, {"MatMul": 2},
    (("a", "b*"),),
    unverified="no GPU",
)  # fmt: skip


class Spec:
    """What a search reads of a spec."""

    path = None
    model = SimpleNamespace(onnx="net.onnx")

    def tolerance(self, precision, *, strict=False):
        return TOLERANCES[precision].strict() if strict else TOLERANCES[precision]


SUBJECT = SimpleNamespace(spec=Spec())


@pytest.fixture
def asked(monkeypatch):
    """Answers every search with `answer[0]`; keeps what was asked."""
    seen, answer = [], [PROPOSAL]

    def propose(_subject, request, _tell):
        seen.append(request)
        if isinstance(answer[0], Exception):
            raise answer[0]
        return answer[0]

    monkeypatch.setattr(fp32_proposal, "propose", propose)
    return SimpleNamespace(seen=seen, answer=answer)


def test_what_is_found_is_plain_data_with_globs_that_match_it_alone(asked):
    found = search_case(SUBJECT, Precision.FP16)
    assert found.verdict == "pass"
    assert json.loads(json.dumps(found.data, allow_nan=False)) == found.data
    assert found.data["nodes"] == ["a", "b*"]
    assert found.data["fp32_nodes"] == ["a", "b[*]"]
    assert found.data["before"] == "inf"
    assert found.data["curve"] == [[0, "inf"], [2, 1e-3]]
    assert found.message.startswith("net[fp16]: 2 of 9 nodes must stay FP32")
    assert asked.seen[0].budget.evaluations is not None
    assert asked.seen[0].budget.seconds is not None


def test_strict_searches_for_the_expected_error(asked):
    search_case(SUBJECT, Precision.FP16)
    search_case(SUBJECT, Precision.FP16, strict=True)
    assert [request.tolerance for request in asked.seen] == [None, TOLERANCES[Precision.FP16].expected]


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.TF32])
def test_fp32_has_nothing_to_search(asked, precision):
    assert search_case(SUBJECT, precision) is None
    assert not asked.seen


def test_a_tolerance_that_no_set_reaches_is_one_line_of_the_record(asked):
    asked.answer[0] = UsageError("net[fp16]: no set of FP32 nodes reaches mre 1.0e-09")
    found = search_case(SUBJECT, Precision.FP16)
    assert (found.verdict, found.data["nodes"]) == ("precision-limited", [])
    assert found.message == "net[fp16]: no set of FP32 nodes reaches mre 1.0e-09"


def test_a_stopped_search_says_so_and_how_to_go_on(asked):
    asked.answer[0] = replace(PROPOSAL, result=replace(RESULT, interrupted="stopped by the user"))
    found = search_case(SUBJECT, Precision.FP16)
    assert found.stopped
    assert "to go on from here: trt-harness search-fp32 net.onnx --precision fp16" in found.message


def record(**data):
    data = {"nodes": ["n1", "n2", "n3", "n4"], "fp32_nodes": ['a "quoted"', "b"]} | data
    return Record("search", "net", "int8+fp16", "onnxruntime", "pass", data=data, message="first\nsecond")


def test_the_terminal_names_the_first_nodes_and_the_searches_without_any():
    none = record(nodes=[], fp32_nodes=[])
    assert proposals.lines([record(), none]) == [
        "net[int8+fp16]: proposal: keep 4 nodes in FP32: n1, n2, n3 and 1 more",
        "net[int8+fp16]: FP32 search: first",
    ]
    assert proposals.proposing([none]) == []


def test_the_snippet_is_toml_for_the_spec():
    import tomllib

    found = tomllib.loads(proposals.toml(record()))
    assert found == {"precision": {"int8+fp16": {"fp32_nodes": ['a "quoted"', "b"]}}}


def test_the_summary_shows_what_to_write():
    text = "\n".join(summary_lines(run_of(record())))
    assert "## FP32 nodes" in text
    assert '[precision."int8+fp16"]' in text
    assert "## FP32 nodes" not in "\n".join(summary_lines(run_of()))


def test_names_cannot_steer_the_terminal():
    (line,) = proposals.lines([record(nodes=["evil\x1b[2J\r" + "x" * 1000])])
    assert line.isprintable()
    assert len(line) <= 400
