"""Axes that hang together: what an expression may say, and the shapes that follow from a choice of sizes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.shapes import at_batch, cases_of
from harness.errors import SpecError
from harness.spec.axes import parse
from harness.spec.file import parse_spec

DECODER = """
name = "decoder"
[model]
onnx = "decoder.onnx"
[inputs.ids]
dtype = "int64"
data = { generator = "integers", low = 0, high = 9 }
[inputs.mask]
dtype = "int64"
data = { generator = "integers", low = 0, high = 2 }
[inputs.past]
dtype = "float32"
data = { generator = "normal" }
[[profiles]]
axes.batch = { min = 1, opt = 2, max = 4 }
axes.past = { min = 0, opt = 8, max = 64, multiple_of = 4 }
axes.seq = { min = 1, opt = 1, max = 16 }
shapes.ids = ["batch", "seq"]
shapes.mask = ["batch", "past + seq"]
shapes.past = ["batch", 4, "past", 16]
"""


def decoder(old="", new=""):
    """The spec above with one part of its text replaced."""
    assert old in DECODER
    return parse_spec(DECODER.replace(old, new) if old else DECODER)


def test_bounds_of_a_profile_follow_from_its_axes():
    profile = decoder().profiles[0]
    mask = profile.shapes["mask"]
    assert (mask.min, mask.opt, mask.max) == ((1, 1), (2, 9), (4, 80))
    assert profile.shapes["past"].min == (1, 4, 0, 16)


def test_every_case_hangs_together():
    for case in cases_of(decoder().profiles[0]):
        ids, mask, past = (case.shapes[name] for name in ("ids", "mask", "past"))
        assert ids[0] == mask[0] == past[0]
        assert mask[1] == past[2] + ids[1]
        assert past[2] % 4 == 0


@given(st.integers(1, 4), st.integers(0, 64), st.integers(1, 16))
def test_shapes_tell_the_sizes_that_they_came_from(batch, past, seq):
    profile = decoder().profiles[0]
    sizes = {"batch": batch, "past": past, "seq": seq}
    shapes = profile.shapes_at(sizes)
    assert shapes["mask"] == (batch, past + seq)
    assert profile.sizes_in(shapes) == sizes
    assert profile.holds(shapes)


def test_a_batch_size_moves_every_shape_that_names_it():
    spec = decoder()
    shapes = at_batch(spec, spec.profiles[0], 3)
    assert shapes == {"ids": (3, 1), "mask": (3, 9), "past": (3, 4, 8, 16)}
    assert at_batch(spec, spec.profiles[0], 5) is None


def test_numbers_and_names_may_stand_beside_each_other():
    table = "shapes.ids = { min = [1, 1], opt = [1, 2], max = [1, 3] }"
    text = DECODER.replace('shapes.ids = ["batch", "seq"]', table)
    profile = parse_spec(text).profiles[0]
    assert set(profile.ranges) == {"batch", "past", "seq", "ids[1]"}
    sizes = {"batch": 1, "past": 4, "seq": 2, "ids[1]": 3}
    assert profile.shapes_at(sizes)["ids"] == (1, 3)
    assert profile.at("max")["ids"] == (1, 3)


def test_an_engine_is_known_by_the_numbers_that_follow():
    named = decoder().profiles[0].model_dump()
    assert "axes" not in named
    assert named["shapes"]["mask"] == {"min": (1, 1), "opt": (2, 9), "max": (4, 80), "multiple_of": None}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("past + sek", "no such axis as 'sek'; the axes are 'batch', 'past', 'seq'"),
        ("past // (seq - 1)", "divides by 0 where past = 0, seq = 1"),
        ("past - 9", "is -9 where past = 0: must be 0 to"),
        ("past ** 2", "must be names of axes, whole numbers, +, -, * and //"),
        ("past / 2", "must be names of axes"),
        ("past + 1.5", "must be names of axes"),
        ("True + past", "must be names of axes"),
        ("past if seq else 1", "must be names of axes"),
        ("past.real", "must be names of axes"),
        ("__import__('os').system('x')", "must be names of axes"),
        ("(lambda: 1)()", "must be names of axes"),
        ("past +", "must be names of axes"),
        ("(" * 99 + "past", "must be names of axes"),
        ("past" * 99, "at most 200 characters"),
        ("9" * 100 + " * past + " + "9" * 50, "must be 0 to"),
    ],
)
def test_a_wrong_expression_is_one_line_that_names_its_place(text, said):
    with pytest.raises(SpecError) as caught:
        decoder("past + seq", text)
    assert str(caught.value).startswith("<spec>: profiles[0].shapes.mask[1] = ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("axes.seq = { min = 1", "axes.seq = { min = 5", "axes.seq = {'min': 5"),
        ("axes.seq =", "axes.width = 3\naxes.seq =", "no shape of the profile names this axis"),
        ("axes.seq =", 'axes."a b" = 3\naxes.seq =', "must be letters, digits and '_'"),
        ("multiple_of = 4", "multiple_of = 3", "8 is no multiple of multiple_of = 3"),
        ('"batch", 4, "past", 16', '"batch", -4, "past", 16', "shapes.past[1] = -4: must be a size"),
        ('"batch", 4, "past", 16', '"batch", 1.5, "past", 16', "shapes.past[1] = 1.5: must be a size"),
    ],
)
def test_a_wrong_axis_is_one_line(old, new, said):
    with pytest.raises(SpecError) as caught:
        decoder(old, new)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


NAMES = ("a", "b", "c")
TREES = st.recursive(
    st.sampled_from(NAMES) | st.integers(0, 9).map(str),
    lambda inner: st.tuples(inner, st.sampled_from(["+", "-", "*", "//"]), inner).map(
        lambda parts: f"({parts[0]} {parts[1]} {parts[2]})"
    ),
    max_leaves=6,
)


@given(TREES, st.tuples(*[st.integers(0, 20)] * 3))
def test_an_expression_means_what_python_means_by_it(text, values):
    sizes = dict(zip(NAMES, values, strict=True))
    try:
        wanted = eval(text, {"__builtins__": {}}, sizes)
    except ZeroDivisionError:
        wanted = -1
    if wanted < 0:
        with pytest.raises(ValueError, match=r"divides by 0|must be 0 to"):
            parse(text).at(sizes)
    else:
        assert parse(text).at(sizes) == wanted
