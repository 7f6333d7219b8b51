"""xfails.txt: read, refused in one line, stale entries found."""

import pytest

from harness.errors import UsageError
from harness.plugin.xfails import Xfail, parse, read, stale

NODE = "suites/test_outputs.py::test_outputs[net-int8]"
ENTRY = Xfail(NODE, "known", 1)


def test_entries_have_an_id_and_a_reason():
    found = parse(f"# a comment\n\n{NODE}  # activations have outliers\n", "xfails.txt")
    assert found == (Xfail(NODE, "activations have outliers", 3),)


@pytest.mark.parametrize("line", [NODE, f"{NODE} #", f"{NODE} #  ", "test_outputs # no file", "x"])
def test_an_entry_without_reason_or_id_is_one_line(line):
    with pytest.raises(UsageError, match=r"xfails\.txt:1: .*must read `nodeid  # reason`"):
        parse(line, "xfails.txt")


def test_an_id_twice_is_refused():
    with pytest.raises(UsageError, match=r"xfails\.txt:2: .*already on line 1"):
        parse(f"{NODE}  # one\n{NODE}  # two\n", "xfails.txt")


def test_no_file_means_no_entries(tmp_path):
    assert read(tmp_path / "xfails.txt") == ()


def test_a_file_that_is_no_text_is_one_line(tmp_path):
    (tmp_path / "x.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="UTF-8"):
        read(tmp_path / "x.txt")


def found_stale(entry, collected, known=frozenset({"net-int8"}), whole_files=True):
    return stale([entry], collected, known, whole_files=whole_files)


def test_an_entry_that_matches_is_not_stale():
    assert found_stale(ENTRY, [NODE]) == []


def test_an_entry_whose_case_was_only_left_out_is_not_stale():
    assert found_stale(ENTRY, [NODE.replace("int8", "fp32")]) == []


def test_an_entry_whose_case_does_not_exist_is_stale():
    assert found_stale(ENTRY, [NODE.replace("int8", "fp32")], known=frozenset({"net-fp32"})) == [ENTRY]


def test_an_entry_whose_function_does_not_exist_is_stale():
    other = "suites/test_outputs.py::test_more[net-int8]"
    assert found_stale(ENTRY, [other]) == [ENTRY]
    assert found_stale(ENTRY, [other], whole_files=False) == []


def test_an_entry_of_a_file_that_was_not_collected_is_not_stale():
    assert found_stale(ENTRY, ["suites/test_engines.py::test_engine[net-int8]"]) == []
