"""The shapes at which a profile is tested."""

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.shape_classes import KINDS, coverage, size_of
from harness.data.shapes import MOST, cases_of
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


EFFORTS = ("quick", "normal", "thorough")


@settings(max_examples=50, deadline=None)
@given(first=ranges(), second=ranges())
def test_more_effort_adds_shapes_within_the_profile_and_the_budget(first, second):
    made = Profile(shapes={"x": first, "y": second})
    found = [cases_of(made, effort) for effort in EFFORTS]
    for effort, cases, fewer in zip(EFFORTS[1:], found[1:], found[:-1], strict=True):
        assert cases[: len(fewer)] == fewer
        assert len(cases) <= MOST[effort]
    for case in found[-1]:
        assert made.holds(case.shapes)
        assert made.shapes_at(case.sizes) == dict(case.shapes)


@settings(max_examples=50, deadline=None)
@given(first=ranges(), second=ranges())
def test_normal_effort_has_every_kind_of_every_axis_within_its_budget(first, second):
    made = Profile(shapes={"x": first, "y": second})
    cases = cases_of(made, "normal")
    told = coverage(made.ranges, [case.sizes for case in cases])
    assert told.shapes == len(cases)
    if len(cases) < MOST["normal"]:
        assert all(one.endswith(" odd") for one in told.missing)


def test_thorough_effort_has_every_kind_beside_every_other():
    ranges = {"min": [1, 1], "opt": [4, 32], "max": [32, 128]}
    made = profile(x=ranges)
    cases = [case.sizes for case in cases_of(made, "thorough")]
    (a, one), (b, other) = made.ranges.items()
    for x, y in permutations(KINDS, 2):
        if size_of(one, x) is not None and size_of(other, y) is not None:
            assert any(KINDS[x](one, sizes[a]) and KINDS[y](other, sizes[b]) for sizes in cases), (x, y)


WRONG = {
    "every even length but opt and max": lambda _, tokens: tokens % 2 == 0 and tokens not in (32, 128),
    "multiples of 8": lambda _, tokens: tokens % 8 == 0 and tokens not in (32, 128),
    "multiples of 16 between": lambda _, tokens: tokens % 16 == 0 and tokens not in (32, 128),
    "batch 1 with more than 40 tokens": lambda batch, tokens: batch == 1 and tokens > 40,
    "large batches of short texts": lambda batch, tokens: batch > 10 and tokens < 8,
    "one less than max": lambda _, tokens: tokens == 127,
    "one more than opt": lambda _, tokens: tokens == 33,
}


@pytest.mark.parametrize("name", WRONG)
def test_an_engine_that_is_wrong_at_some_sizes_only_is_asked_there(name):
    ranges = {"min": [1, 1], "opt": [4, 32], "max": [16, 128]}
    found = cases_of(profile(x=ranges), "normal")
    assert any(WRONG[name](*case.shapes["x"]) for case in found)


def test_what_is_not_run_is_told():
    made = profile(x={"min": [1, 1], "opt": [4, 32], "max": [16, 128]})
    told = coverage(made.ranges, [case.sizes for case in cases_of(made)])
    assert "x[1] of 16" in told.missing
    assert "x[0] min with x[1] max" in told.missing
    found = told.classes - len(told.missing)
    assert str(told).startswith(f"6 shapes, {found} of {told.classes} classes, without ")


@given(shapes=ranges())
def test_equal_ranges_give_equal_shapes(shapes):
    for case in cases_of(Profile(shapes={"x": shapes, "y": shapes})):
        assert case.shapes["x"] == case.shapes["y"]
