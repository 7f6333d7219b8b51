"""Axes that hang together, found by `init`: out of the file's own words, or by trying."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from harness.data.inputs import Feeds, cases_of
from harness.drafting import draft as spec_draft
from harness.drafting.guesses import draft_inputs
from harness.drafting.relations import offset, tied
from harness.graph import file as onnx_file
from harness.spec.file import parse_spec

DECODER = Path(__file__).resolve().parents[2] / "suites" / "models" / "char_decoder" / "model.onnx"


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """Trials run here: a process of their own costs a second each."""
    monkeypatch.setattr(spec_draft, "isolated", lambda function, *args, **_: function(*args))


def nameless(folder):
    """The decoder in the box, its dynamic axes without names."""
    model = onnx.load(DECODER)
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            dim.ClearField("dim_param")
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


def hangs_together(spec):
    """Every case of the first profile, its sizes checked against what the decoder needs."""
    for case in cases_of(spec.profiles[0]):
        ids, mask, past = (case.shapes[n] for n in ("input_ids", "attention_mask", "past_k_0"))
        assert mask == (ids[0], past[2] + ids[1])
        assert case.shapes["position_ids"] == ids
        assert {case.shapes[f"past_{c}"] for c in ("k_0", "v_0", "k_1", "v_1")} == {past}
    return spec.profiles[0]


def test_the_files_own_expressions_are_taken():
    profile = hangs_together(spec_draft.spec_from_onnx(DECODER))
    assert set(profile.axes) == {"batch", "past", "seq"}
    assert profile.axes["past"].min == 0
    assert profile.axes["batch"].max > 1
    assert profile.axes["seq"].max > profile.axes["seq"].min


def test_a_mask_is_found_to_be_the_sum_of_two_lengths_by_trying(tmp_path):
    spec = spec_draft.spec_from_onnx(nameless(tmp_path))
    profile = hangs_together(spec)
    assert profile.shapes["attention_mask"].dims is not None
    past = next(dim for dim in profile.shapes["past_k_0"].dims if isinstance(dim, str) and "_2" in dim)
    assert profile.axes[past].max > profile.axes[past].min
    assert spec.inputs["position_ids"].data.offset == past


def test_drafted_data_make_sense():
    spec = spec_draft.spec_from_onnx(DECODER)
    shapes = spec.profiles[0].shapes_at({"batch": 4, "past": 8, "seq": 3})
    feed = Feeds(spec).feed(shapes)
    assert feed["attention_mask"][0].tolist() == [1] * 11
    assert feed["attention_mask"][1].tolist() == [0] * 2 + [1] * 9
    assert feed["position_ids"].tolist() == [[8, 9, 10]] * 4
    assert 0 <= feed["input_ids"].min() <= feed["input_ids"].max() < 128


def test_a_draft_with_axes_is_written_as_it_is_read(tmp_path):
    text = spec_draft.draft_spec(DECODER, tmp_path / "spec.toml")
    assert 'shapes.attention_mask = ["batch", "past + seq"]' in text
    assert parse_spec(text).profiles[0].axes.keys() == {"batch", "past", "seq"}


def test_positions_start_where_the_mask_has_more():
    inputs = draft_inputs(onnx_file.read(DECODER))
    named = {one.name: one for one in inputs}
    assert offset(named["position_ids"], inputs) == "past"
    assert offset(named["position_ids"], inputs[:1]) is None
    assert tied(inputs) == inputs


def test_a_mask_has_no_row_without_a_key():
    value = helper.make_tensor_value_info
    inputs = [value("attention_mask", TensorProto.BOOL, ["n", "t"]), value("use_x", TensorProto.BOOL, ["n"])]
    graph = helper.make_graph(
        [helper.make_node("Not", ["attention_mask"], ["y"]), helper.make_node("Not", ["use_x"], ["z"])],
        "flags", inputs, [value("y", TensorProto.BOOL, ["n", "t"]), value("z", TensorProto.BOOL, ["n"])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    found = {one.name: dict(one.values) for one in draft_inputs(onnx_file.read(_saved(model)))}
    assert found["attention_mask"] == {"generator": "mask"}
    assert found["use_x"] == {"generator": "integers", "low": 0, "high": 2}


def _saved(model):
    import tempfile

    path = Path(tempfile.mkdtemp()) / "m.onnx"
    onnx.save(model, path)
    return path
