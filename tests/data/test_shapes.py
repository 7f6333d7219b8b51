"""The shapes at which a profile is tested."""

from hypothesis import given
from hypothesis import strategies as st

from harness.data.shapes import cases_of
from harness.spec.model_spec import Profile, ShapeRange


def profile(**shapes):
    """A profile of shape ranges by input name."""
    return Profile.model_validate({"shapes": shapes})


def sizes(case):
    """The shapes of a case, by label."""
    return case.label, dict(case.shapes)


def test_min_opt_max_and_uneven_shapes_between():
    cases = cases_of(profile(x={"min": [1, 3], "opt": [4, 3], "max": [16, 3]}))
    assert [sizes(case) for case in cases] == [
        ("min", {"x": (1, 3)}),
        ("opt", {"x": (4, 3)}),
        ("max", {"x": (16, 3)}),
        ("between", {"x": (5, 3)}),
        ("between", {"x": (9, 3)}),
        ("between", {"x": (13, 3)}),
    ]


def test_a_static_profile_is_one_case():
    assert [case.label for case in cases_of(profile(x=[2, 3], y=[2]))] == ["min"]


def test_sides_stay_multiples():
    shapes = {"min": [1, 32], "opt": [1, 64], "max": [1, 320], "multiple_of": [1, 32]}
    between = [case.shapes["x"][1] for case in cases_of(profile(x=shapes)) if case.label == "between"]
    assert len(between) == 3
    assert all(size % 32 == 0 for size in between)


@st.composite
def ranges(draw):
    """A valid shape range of rank 0 to 3."""
    axes = draw(st.lists(st.tuples(st.integers(1, 8), *[st.integers(0, 40)] * 3), max_size=3))
    bounds = [sorted(sizes) for _, *sizes in axes]
    multiples = [multiple for multiple, *_ in axes]
    low, usual, high = ([b[i] * m for b, m in zip(bounds, multiples, strict=True)] for i in range(3))
    return ShapeRange.model_validate({"min": low, "opt": usual, "max": high, "multiple_of": multiples})


@given(shapes=ranges())
def test_every_case_lies_in_the_profile_once(shapes):
    found = [case.shapes["x"] for case in cases_of(Profile(shapes={"x": shapes}))]
    assert len(set(found)) == len(found)
    assert {shapes.min, shapes.opt, shapes.max} <= set(found)
    for shape in found:
        for size, low, high, multiple in zip(shape, shapes.min, shapes.max, shapes.multiples, strict=True):
            assert low <= size <= high
            assert size % multiple == 0


@given(shapes=ranges())
def test_equal_ranges_give_equal_shapes(shapes):
    for case in cases_of(Profile(shapes={"x": shapes, "y": shapes})):
        assert case.shapes["x"] == case.shapes["y"]
