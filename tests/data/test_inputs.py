"""What engines are fed: rows, shapes, dtypes, generators, loaders, and files that lie."""

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data import arrays as data
from harness.data.inputs import GENERATED_SAMPLES, Feeds, calibration_feeds, labels
from harness.errors import DataError, UsageError
from harness.precision import Precision
from harness.spec.file import read_spec
from harness.spec.model_spec import ModelSpec
from tests.helpers.models import SPEC, write_example


def made(inputs, shapes, folder=None, **more):
    """A spec of `inputs` (dtype and data by name) at fixed or ranged `shapes`."""
    spec = ModelSpec.model_validate(
        {
            "name": "made",
            "model": {"onnx": "model.onnx"},
            "inputs": inputs,
            "profiles": [{"shapes": shapes}],
            **more,
        }
    )
    if folder is not None:
        spec._path = folder / "spec.toml"
    return spec


def generated(dtype="float32", **source):
    """A spec of one generated input `x` of shape [2..8, 3]."""
    source = source or {"generator": "normal"}
    return made({"x": {"dtype": dtype, "data": source}}, {"x": {"min": [2, 3], "opt": [4, 3], "max": [8, 3]}})


def saved(folder, array, *, shape=None, **more):
    """A spec of one input `x` whose data are `array`, in an npy file."""
    np.save(folder / "x.npy", array)
    part = {"dtype": array.dtype.name, "data": {"npy": "x.npy"}, **more}
    return made(
        {"x": part},
        {"x": shape if isinstance(shape, dict) else list(array.shape if shape is None else shape)},
        folder,
    )


def test_rows_follow_each_other_and_wrap(tmp_path):
    feeds = Feeds(read_spec(write_example(tmp_path)))
    assert feeds.samples == 10
    rows = feeds.feed({"input": (4, 4)}, start=8)["input"]
    assert rows[:, 0].tolist() == [32, 36, 0, 4]
    assert rows.dtype == np.float32
    assert rows.flags["C_CONTIGUOUS"]


def test_other_axes_are_cropped_or_wrapped(tmp_path):
    feeds = Feeds(saved(tmp_path, np.arange(6, dtype=np.int64).reshape(2, 3)))
    assert feeds.feed({"x": (1, 2)})["x"].tolist() == [[0, 1]]
    assert feeds.feed({"x": (1, 5)}, start=1)["x"].tolist() == [[3, 4, 5, 3, 4]]


@pytest.mark.parametrize(
    ("shape", "rule"),
    [
        ((4, 2), r"x = 'x\.npy': has shape \(4, 2\), must have at least 3 along axis 1"),
        ((4, 5, 2), "at least 3 along axis 2"),
        ((4, 1), None),
        ((4, 3), None),
    ],
)
def test_data_are_not_repeated_where_no_shape_is_as_small(tmp_path, shape, rule):
    spec = saved(tmp_path, np.ones(shape, np.float32), shape={"min": [1, 3], "opt": [2, 3], "max": [5, 6]})
    if rule is None:
        assert Feeds(spec).feed({"x": (2, 3)})["x"].shape == (2, 3)
        return
    with pytest.raises(DataError, match=rule.replace("x = ", r"inputs\.x\.data = ")):
        Feeds(spec).feed({"x": (2, 3)})


def test_samples_with_an_axis_of_their_own_are_fed_alone(tmp_path):
    array = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    feeds = Feeds(saved(tmp_path, array, shape=(2, 2), batch_axis=1))
    assert feeds.samples == 3
    assert feeds.rows({"x": (2, 2)}) == 1
    assert np.array_equal(feeds.feed({"x": (2, 2)}, start=4)["x"], array[1])


def test_another_batch_axis(tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    feeds = Feeds(saved(tmp_path, array, batch_axis=1))
    assert feeds.samples == 3
    assert feeds.feed({"x": (2, 2)}, start=2)["x"].tolist() == [[2, 0], [5, 3]]


def test_feeds_can_be_written_to(tmp_path):
    feeds = Feeds(saved(tmp_path, np.zeros((2, 3), np.float32)))
    feeds.feed({"x": (2, 3)})["x"][:] = 1
    assert not feeds.feed({"x": (2, 3)})["x"].any()


def test_scalars(tmp_path):
    feeds = Feeds(saved(tmp_path, np.array([5, 6], np.int64), shape=()))
    assert feeds.feed({"x": ()}, start=1)["x"].shape == ()
    assert feeds.feed({"x": ()}, start=1)["x"] == 6


@pytest.mark.filterwarnings("error")
def test_a_file_that_claims_more_than_memory_can_hold_is_one_line(tmp_path):
    spec = saved(tmp_path, np.zeros((2, 3), np.float32))
    header = {"descr": "<f4", "fortran_order": False, "shape": (2**40, 2**40)}
    with (tmp_path / "x.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(DataError, match=r"inputs\.x\.data\.npy = 'x\.npy': cannot be read: array is too big"):
        Feeds(spec).feed({"x": (2, 3)})


def test_unequal_sample_counts(tmp_path):
    for name, count in (("a", 3), ("b", 2)):
        np.save(tmp_path / f"{name}.npy", np.zeros((count, 1), np.float32))
    inputs = {n: {"dtype": "float32", "data": {"npy": f"{n}.npy"}} for n in "ab"}
    with pytest.raises(DataError, match=r"inputs\.b\.data = 'b\.npy': has 2 samples, 'a' has 3"):
        Feeds(made(inputs, {"a": [1, 1], "b": [1, 1]}, tmp_path)).feed({"a": (1, 1), "b": (1, 1)})


@pytest.mark.parametrize(
    ("shape", "rule"), [((4,), "must have rank 2"), ((2, 2, 2, 2), "must have rank 2"), ((0, 3), "is empty")]
)
def test_shapes_that_do_not_fit(tmp_path, shape, rule):
    spec = saved(tmp_path, np.zeros(shape, np.float32), shape=(2, 3))
    with pytest.raises(DataError, match=rule):
        Feeds(spec).feed({"x": (2, 3)})


@given(
    batch=st.integers(1, 9),
    start=st.integers(0, 1000),
    dtype=st.sampled_from(["float32", "float16", "bfloat16"]),
)
def test_a_generated_sample_does_not_depend_on_its_batch(batch, start, dtype):
    feeds = Feeds(generated(dtype))
    whole = feeds.feed({"x": (batch, 3)}, start)["x"]
    assert whole.dtype.name == dtype
    alone = [feeds.feed({"x": (1, 3)}, start + k)["x"][0] for k in reversed(range(batch))]
    assert np.array_equal(whole, np.stack(alone[::-1]))


def test_generated_samples_differ_by_row_seed_and_input():
    def first(**source):
        return Feeds(generated(generator="normal", **source)).feed({"x": (2, 3)})["x"]

    assert not np.array_equal(first()[0], first()[1])
    assert not np.array_equal(first(seed=1), first(seed=2))
    assert Feeds(generated()).samples == GENERATED_SAMPLES


@pytest.mark.parametrize(
    ("dtype", "source", "low", "high"),
    [
        ("int64", {"generator": "integers", "low": -3, "high": 4}, -3, 3),
        ("uint8", {"generator": "integers", "low": 0, "high": 256}, 0, 255),
        ("bool", {"generator": "integers", "low": 0, "high": 2}, 0, 1),
        ("float32", {"generator": "uniform", "low": 2, "high": 3}, 2, 3),
    ],
)
def test_generators_keep_their_bounds(dtype, source, low, high):
    values = Feeds(generated(dtype, **source)).feed({"x": (500, 3)})["x"]
    assert values.dtype.name == dtype
    assert low <= values.min() < values.max() <= high


@pytest.mark.parametrize(
    ("dtype", "source"),
    [
        ("int64", {"generator": "normal"}),
        ("uint8", {"generator": "integers", "low": 0, "high": 257}),
        ("bool", {"generator": "integers", "low": 0, "high": 3}),
        ("uint64", {"generator": "integers", "low": 0, "high": 1.8e19}),
        ("float32", {"generator": "integers", "low": 0, "high": 1e300}),
        ("float32", {"generator": "uniform", "low": -1e308, "high": 1e308}),
    ],
)
def test_generators_that_do_not_fit_the_dtype(dtype, source):
    with pytest.raises(ValueError, match=r"integers|must lie within|must be a finite"):
        generated(dtype, **source)


def test_calibration_takes_samples_from_the_end(tmp_path):
    text = SPEC.replace("[task]", "[precision.int8]\ncalibration.samples = 3\n\n[task]")
    feeds = list(calibration_feeds(read_spec(write_example(tmp_path, text)), Precision.INT8))
    assert [f["input"][:, 0].tolist() for f in feeds] == [[28, 32], [36, 0]]


def test_calibration_data_of_its_own(tmp_path):
    np.save(tmp_path / "own.npy", np.full((5, 4), 7, np.float32))
    text = SPEC.replace("[task]", '[precision.int8]\ncalibration.data.input = { npy = "own.npy" }\n\n[task]')
    feeds = list(calibration_feeds(read_spec(write_example(tmp_path, text)), Precision.INT8, 4))
    assert len(feeds) == 2
    assert all((f["input"] == 7).all() for f in feeds)


def test_labels_are_cut_to_the_samples_asked_for(tmp_path):
    spec = read_spec(write_example(tmp_path, SPEC + "samples = 4\n"))
    assert labels(spec).tolist() == [0, 1, 2, 0]


LOADERS = """
import numpy as np
def load(): return np.ones((2, 4), np.float32)
def given(assets): return np.full((2, 4), len(assets), np.float32)
def wrong(): return [1]
def broken(): raise KeyError("x\\ny")
value = 3
"""


def loaded(folder, function):
    """The first value that the loader `function` gives."""
    (folder / "data.py").write_text(LOADERS)
    text = SPEC.replace('npz = "data.npz", member = "rows"', f'loader = "data.py:{function}"')
    return Feeds(read_spec(write_example(folder, text))).feed({"input": (1, 4)})["input"][0, 0]


def test_loaders_may_take_the_assets(tmp_path):
    assert loaded(tmp_path, "load") == 1
    assert loaded(tmp_path, "given") == 0


@pytest.mark.parametrize(
    ("function", "rule"),
    [
        ("wrong", "must return a NumPy array of numbers"),
        ("broken", "raised KeyError: 'x\\ny'"),
        ("value", "the file has no function 'value'"),
        ("absent", "the file has no function 'absent'"),
    ],
)
def test_loaders_that_fail(tmp_path, function, rule):
    with pytest.raises(UsageError) as caught:
        loaded(tmp_path, function)
    assert str(caught.value).endswith(rule)
    assert "\n" not in str(caught.value)


def write_member(path, content):
    """An npz whose member `rows` is `content`."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rows.npy", content)


def npy_bytes(array):
    """`array` as an npy file."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def test_members_that_claim_more_than_there_is(tmp_path):
    spec = read_spec(write_example(tmp_path))
    content = npy_bytes(np.zeros((1, 4), np.float32))
    write_member(tmp_path / "data.npz", content.replace(b"(1, 4)", b"(9, 4)"))
    with pytest.raises(DataError, match="does not match"):
        Feeds(spec).feed({"input": (1, 4)})


def test_members_that_unpack_to_too_much(tmp_path, monkeypatch):
    spec = read_spec(write_example(tmp_path))
    write_member(tmp_path / "data.npz", npy_bytes(np.zeros((100_000, 4), np.float32)))
    monkeypatch.setattr(data, "MAX_MEMBER_BYTES", 1_000_000)
    with pytest.raises(DataError, match="unpacks to 1600128 bytes"):
        Feeds(spec).feed({"input": (1, 4)})


@pytest.mark.parametrize("order", ["C", "F"])
def test_members_are_read_as_numpy_reads_them(tmp_path, order):
    array = np.asarray(np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32), order=order)
    spec = read_spec(write_example(tmp_path))
    np.savez_compressed(tmp_path / "data.npz", rows=array)
    assert np.array_equal(Feeds(spec).feed({"input": (5, 4)})["input"], array)


def test_data_of_another_byte_order_are_fed_in_this_machines(tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    fed = Feeds(saved(tmp_path, array.astype(array.dtype.newbyteorder()))).feed({"x": (2, 3)})["x"]
    assert fed.dtype.isnative
    assert np.array_equal(fed, array)
