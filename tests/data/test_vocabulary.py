"""Ids that no row of a table belongs to are told once, before anything is built."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.errors import DataError
from harness.options import Options
from harness.plugin.preflight import check_spec
from harness.spec.file import read_spec
from tests.helpers.models import one_graph

ROWS = 10
SPEC = """\
name = "ids"
model.onnx = "model.onnx"
[inputs.ids]
dtype = "int64"
data = {data}
[[profiles]]
shapes.ids = {{ min = [1, 2], opt = [2, 3], max = [4, 4] }}
{more}
"""
GATHER = helper.make_node("Gather", ["table", "picks"], ["y"], "embed")
SAME = helper.make_node("Identity", ["ids"], ["picks"], "same")
CLIPPED = helper.make_node("Clip", ["ids", "", "last"], ["picks"], "clip")


def checked(folder, data, more="", nodes=(SAME, GATHER), axis_one=False):
    """Pre-flight of a model with a table of ten rows on `data`."""
    table = np.zeros((ROWS, 3) if not axis_one else (3, ROWS), np.float32)
    weights = [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.int64(ROWS - 1), "last")]
    inputs, outputs = [("ids", TensorProto.INT64, ["n", "s"])], [("y", ["a", "b", "c"])]
    onnx.save(one_graph(nodes, inputs, outputs, weights), folder / "model.onnx")
    (folder / "spec.toml").write_text(SPEC.format(data=data, more=more))
    check_spec(read_spec(folder / "spec.toml"), Options())


def saved(folder, values):
    np.save(folder / "ids.npy", np.asarray(values))
    return '{ npy = "ids.npy" }'


@pytest.mark.parametrize(
    ("low", "high", "found"), [(0, 11, "feeds 0 to 10"), (-11, 3, "-11 to 2"), (12, 13, "12,")]
)
def test_generated_ids(tmp_path, low, high, found):
    with pytest.raises(DataError) as caught:
        checked(tmp_path, f'{{ generator = "integers", low = {low}, high = {high} }}')
    line = str(caught.value)
    assert line.startswith(f"{tmp_path / 'spec.toml'}: inputs.ids.data = {{'low': {low}, 'high': {high}}}: ")
    assert found in line
    assert line.endswith("must be -10 to 9: 'embed' picks from 10 rows")


def test_ids_that_all_have_a_row(tmp_path):
    checked(tmp_path, f'{{ generator = "integers", low = {-ROWS}, high = {ROWS} }}')
    checked(tmp_path, saved(tmp_path, [[0, 9], [-10, 3]]))


def test_ids_in_a_file(tmp_path):
    with pytest.raises(DataError, match=r"inputs\.ids\.data = 'ids\.npy': feeds 0 to 10, must be -10 to 9"):
        checked(tmp_path, saved(tmp_path, [[0, 1], [10, 1]]))


def test_samples_of_their_own(tmp_path):
    with pytest.raises(DataError, match="feeds 0 to 10"):
        checked(tmp_path, saved(tmp_path, [[[0, 1]], [[10, 1]]]))


def test_what_is_never_fed_is_not_held_against_the_data(tmp_path):
    checked(tmp_path, saved(tmp_path, [[0, 1, 2, 3, 10]]))


def test_calibration_data(tmp_path):
    more = f"[precision.int8.calibration.data]\nids = {saved(tmp_path, [[0, 10]])}"
    with pytest.raises(DataError, match=r"precision\.int8\.calibration\.data\.ids = 'ids\.npy': feeds 0"):
        checked(tmp_path, '{ generator = "integers", low = 0, high = 3 }', more)


def test_other_axes_of_a_table(tmp_path):
    along = helper.make_node("Gather", ["table", "picks"], ["y"], "embed", axis=-1)
    data = '{{ generator = "integers", low = 0, high = {} }}'
    checked(tmp_path, data.format(10), nodes=(SAME, along), axis_one=True)
    with pytest.raises(DataError, match="feeds 0 to 10"):
        checked(tmp_path, data.format(11), nodes=(SAME, along), axis_one=True)


def test_ids_that_the_model_clips_itself(tmp_path):
    checked(tmp_path, '{ generator = "integers", low = 0, high = 99 }', nodes=(CLIPPED, GATHER))
