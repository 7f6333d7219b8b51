"""Specs read from, found in and written to TOML files."""

import os

import pytest
import tomlkit

from harness.errors import SpecError
from harness.precision import Precision, Tolerance
from harness.spec.file import find_spec, find_specs, parse_spec, read_spec, write_fp32_nodes
from harness.spec.model_spec import ModelSpec
from tests.helpers.models import SPEC, write_example


def test_a_spec_says_what_its_file_says(tmp_path):
    path = write_example(tmp_path)
    spec = read_spec(path)
    assert spec.name == "example"
    assert spec.precisions == (Precision.FP32, Precision.FP16)
    assert spec.profiles[0].shapes["input"].max == (8, 4)
    assert spec.plan(Precision.FP16).fp32_nodes == ("layer/*",)
    assert spec.path == path
    assert spec.folder == tmp_path


def test_a_bare_list_is_min_opt_and_max():
    spec = parse_spec(SPEC.replace("{ min = [1, 4], opt = [2, 4], max = [8, 4] }", "[3, 4]"))
    shapes = spec.profiles[0].shapes["input"]
    assert shapes.min == shapes.opt == shapes.max == (3, 4)


def test_specs_are_frozen():
    spec = parse_spec(SPEC)
    with pytest.raises(ValueError, match="frozen"):
        spec.name = "other"


def test_scalars_are_not_converted():
    with pytest.raises(SpecError, match=r"profiles\[0\]\.shapes\.input\.min\[0\] = '1'"):
        parse_spec(SPEC.replace("min = [1, 4]", 'min = ["1", 4]'))


def test_tolerance_overrides_the_table():
    text = SPEC.replace("[task]", "tolerance.limit = 1e-4\n\n[task]")
    spec = parse_spec(text)
    assert spec.tolerance(Precision.FP16) == Tolerance(1e-4, 1e-4)
    assert spec.tolerance(Precision.FP32).limit == 5e-6
    assert spec.tolerance(Precision.FP32, strict=True) == Tolerance(1e-6, 1e-6)


def test_every_profile_must_have_every_input():
    spec = parse_spec(SPEC).model_dump(mode="json")
    spec["profiles"].append({"name": "second", "shapes": {}})
    with pytest.raises(ValueError, match="needs a shape range for the input 'input'"):
        ModelSpec.model_validate(spec)


def test_fp32_nodes_are_written_with_comments_and_order_kept(tmp_path):
    path = write_example(tmp_path)
    write_fp32_nodes(path, Precision.FP16, ["layer/gemm", 'odd "name" [0]\n'])
    text = path.read_text()
    assert read_spec(path).plan(Precision.FP16).fp32_nodes == ("layer/gemm", 'odd "name" [0]\n')
    for comment in ("# The example.", "# in this order", "# Found by hand."):
        assert comment in text
    assert text.index("[model]") < text.index("[precision.fp16]") < text.index("[task]")
    assert [line for line in SPEC.splitlines() if "fp32_nodes" not in line] == [
        line for line in text.splitlines() if line in SPEC.splitlines() and "fp32_nodes" not in line
    ]


def test_fp32_nodes_of_a_precision_without_a_table(tmp_path):
    path = write_example(tmp_path)
    write_fp32_nodes(path, Precision.INT8_FP16, ["layer/relu"])
    spec = read_spec(path)
    assert spec.plan(Precision.INT8_FP16).fp32_nodes == ("layer/relu",)
    assert spec.plan(Precision.FP16).fp32_nodes == ("layer/*",)
    assert '\n\n[precision."int8+fp16"]\nfp32_nodes = ["layer/relu"]\n\n[task]' in path.read_text()


@pytest.mark.parametrize(
    "table", ['precision.fp16 = { fp32_nodes = ["layer/*"] }', "", "precision = { int8 = {} }"]
)
def test_fp32_nodes_in_every_form_of_a_table(tmp_path, table):
    head, _, tail = SPEC.partition("# Found by hand.")
    text = head.replace("[model]", f"{table}\n\n[model]") + tail[tail.index("[task]") :]
    path = write_example(tmp_path, text)
    write_fp32_nodes(path, Precision.FP16, ["layer/gemm"])
    assert read_spec(path).plan(Precision.FP16).fp32_nodes == ("layer/gemm",)


def test_fp32_nodes_written_twice_are_the_last(tmp_path):
    path = write_example(tmp_path)
    for names in (["layer/gemm", "layer/relu"], [], ["layer/relu"]):
        write_fp32_nodes(path, Precision.FP16, names)
        assert read_spec(path).plan(Precision.FP16).fp32_nodes == tuple(names)


def test_writing_leaves_no_other_file_and_the_mode(tmp_path):
    path = write_example(tmp_path)
    path.chmod(0o640)
    before = sorted(os.listdir(tmp_path))
    write_fp32_nodes(path, Precision.FP16, [])
    assert sorted(os.listdir(tmp_path)) == before
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_round_trip_changes_nothing():
    assert tomlkit.dumps(tomlkit.parse(SPEC)) == SPEC


def test_the_only_spec_of_a_folder_is_meant(tmp_path):
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "spec.toml").write_text("")
    assert find_spec(tmp_path).samefile(tmp_path / "net" / "spec.toml")
    assert find_spec(tmp_path / "other.toml") == tmp_path / "other.toml"
    (tmp_path / "spec.toml").write_text("")
    with pytest.raises(SpecError, match=r"the folder holds 2 specs: name one, say .*spec\.toml"):
        find_spec(tmp_path)


def test_specs_are_found_in_folders_once(tmp_path):
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        write_example(tmp_path / name)
    own = tmp_path / "a" / "spec.toml"
    assert find_specs([own, tmp_path]) == [own, tmp_path / "b" / "spec.toml"]


def test_a_first_key_goes_before_the_comments_of_the_next_table(tmp_path):
    after = '\n# About int8.\n[precision.int8]\nfp32_nodes = ["layer/relu"]\n\n[task]'
    head, _, tail = SPEC.partition("# Found by hand.")
    path = write_example(tmp_path, f"{head}[precision.fp16]\n{after}{tail.partition('[task]')[2]}")
    for name in ("layer/relu", "layer/gemm"):
        write_fp32_nodes(path, Precision.FP16, [name])
        assert f'[precision.fp16]\nfp32_nodes = ["{name}"]\n{after}' in path.read_text()
