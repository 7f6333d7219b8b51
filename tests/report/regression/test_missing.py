"""What vanished is not green: gone, renamed, skipped, compared with nothing, cut short."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from harness.cli import main
from harness.records import Record
from harness.report import changes
from harness.report.annotations import of_differences
from harness.report.baseline import diff
from harness.report.regression.difference import Difference
from harness.report.regression.missing import cut_short, explained, losses, troubles
from harness.report.results import JOURNAL, UNFINISHED, Results, TestOutcome, write
from harness.report.summary import lines
from tests.helpers.results import engine_record, latency_record, outputs_record, run


def found(base: list[Record], new: list[Record], *allowed: str) -> list[Difference]:
    return explained(diff(base, new), base, new, allowed)


def case(model: str) -> list[Record]:
    """Records of one model, whose graph and weights its name decides up to the first dash."""
    made = engine_record(model)
    hashes = {"model": model.partition("-")[0]}
    manifest = {**made.data["manifest"], "hashes": hashes}
    engine = dataclasses.replace(made, data={**made.data, "manifest": manifest})
    return [engine, outputs_record(model), latency_record(model)]


def test_a_case_that_is_gone_fails_until_it_is_meant() -> None:
    base, new = [*case("a"), *case("b")], case("a")
    assert {d.key.model for d in losses(found(base, new))} == {"b"}
    assert losses(found(base, new, "b")) == []
    assert {d.status for d in found(base, new, "b") if d.key.model == "b"} == {"allowed"}
    assert losses(found(base, new, "c")) != []


def test_one_kind_or_shape_that_is_gone_is_found() -> None:
    base = case("a")
    for dropped in base:
        new = [record for record in base if record is not dropped]
        assert {d.key.kind for d in losses(found(base, new))} == {dropped.kind}
        assert losses(found(base, new, f"a-fp16 {dropped.kind}")) == []


def test_a_renamed_model_is_named_with_both_names() -> None:
    changed = found([*case("net"), *case("b")], [*case("net-v2"), *case("b")])
    assert {d.status for d in losses(changed)} == {"renamed"}
    assert "the same model is now called 'net-v2'" in losses(changed)[0].text
    (new,) = {d.text for d in changed if d.status == "new"}
    assert new == "is not in the baseline, where the same model is called 'net'"


def test_another_model_under_a_new_name_is_no_renaming() -> None:
    assert {d.status for d in losses(found(case("net"), case("other")))} == {"gone"}


def test_a_model_kept_under_its_name_beside_a_copy_is_not_renamed() -> None:
    assert losses(found(case("net"), [*case("net"), *case("net-copy")])) == []


def test_a_skipped_case_says_why() -> None:
    base = case("a")
    skipped = outputs_record("a", verdict="skipped", message="no GPU", profile=None, shapes={}, data={})
    (loss,) = losses(found(base, [base[0], skipped, base[2]]))
    assert (loss.status, loss.text) == ("skipped", "is skipped: no GPU")


def test_nothing_compared_at_all_is_told() -> None:
    there = found(case("a"), case("b"), "a")
    assert losses(there) == []
    assert troubles(case("a"), there) == ["nothing was compared: the baseline and the run share no case"]
    assert troubles(case("a"), found(case("a"), case("a"))) == []
    assert troubles([], []) == []


def killed(name: str = "killed") -> Results:
    outcome = TestOutcome("suites/test_outputs.py::test_outputs[a-fp16]", "error", message=UNFINISHED)
    return run(*case("a"), name=name, complete=False, tests=(TestOutcome("t", "passed"), outcome))


def test_a_killed_run_says_during_which_test() -> None:
    said = (
        "run killed was cut short during suites/test_outputs.py::test_outputs[a-fp16]: 2 tests are known of"
    )
    assert cut_short(killed()) == said
    assert cut_short(run(*case("a"))) == ""
    assert "cut short during" in "\n".join(lines(killed()))


def test_losses_are_on_every_page() -> None:
    there = found([*case("a"), *case("b")], case("a"))
    assert any(line.startswith("gone: b[fp16]") for line in changes.lines(there))
    assert any("Missing%3A b fp16" in line for line in of_differences(there))
    assert any("b\\[fp16\\]" in line for line in lines(run(*case("a")), there))


@pytest.mark.parametrize(
    ("new", "options", "code", "says"),
    [
        (case("a"), (), 1, "gone: b[fp16]"),
        (case("a"), ("--allow-missing", "b"), 0, "allowed: b[fp16]"),
        ([*case("a"), *case("b")], (), 0, "same"),
        (case("c"), ("--allow-missing", "*"), 1, "nothing was compared"),
    ],
)
def test_diff_ends_with_1_where_something_is_missing(
    new: list[Record],
    options: tuple[str, ...],
    code: int,
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(run(*case("a"), *case("b"), name="base"), tmp_path / "base")
    write(run(*new, name="new"), tmp_path / "new")
    assert main(["diff", str(tmp_path / "base"), str(tmp_path / "new"), *options]) == code
    assert says in capsys.readouterr().out


def test_diff_and_annotations_of_a_killed_run_fail_and_name_its_test(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(run(*case("a"), name="base"), tmp_path / "base")
    write(killed(), tmp_path / "new")
    assert not (tmp_path / "new" / JOURNAL).exists()
    assert main(["diff", str(tmp_path / "base"), str(tmp_path / "new"), "--github"]) == 1
    assert "::error title=Incomplete::run killed was cut short during" in capsys.readouterr().out
    assert main(["report", "annotations", str(tmp_path / "new")]) == 0
    assert "run killed was cut short during" in capsys.readouterr().out
