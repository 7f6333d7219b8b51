"""Selection of cases: options narrow it, never add to it."""

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.options import Options
from harness.plugin.selection import concerns, select
from harness.precision import Precision
from tests.helpers.specs import made_spec

SPECS = (made_spec("mnist", ("fp32", "fp16")), made_spec("vad", ("fp32", "int8+fp16")))


def ids(**options):
    return [case.id for case in select(SPECS, Options(**options)).cases]


def test_every_model_at_every_precision_of_its_spec():
    assert ids() == ["mnist-fp32", "mnist-fp16", "vad-fp32", "vad-int8+fp16"]


def test_globs_and_precisions_narrow():
    assert ids(models=("mn*",)) == ["mnist-fp32", "mnist-fp16"]
    assert ids(precisions=(Precision.FP16,)) == ["mnist-fp16"]
    assert ids(models=("vad",), precisions=(Precision.FP32,)) == ["vad-fp32"]


def test_a_precision_that_a_spec_does_not_list_is_never_added():
    assert ids(precisions=(Precision.BF16, Precision.FP32)) == ["mnist-fp32", "vad-fp32"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"models": ("nonet",)}, ["--trt-model", "nonet", "mnist (fp32, fp16)"]),
        ({"precisions": (Precision.BF16,)}, ["--trt-precision", "bf16", "vad (fp32, int8+fp16)"]),
    ],
)
def test_a_narrowing_that_leaves_nothing_is_a_mistake(options, words):
    with pytest.raises(UsageError) as error:
        ids(**options)
    assert all(word in str(error.value) for word in words)


def test_two_specs_of_one_name_are_refused():
    with pytest.raises(UsageError, match="also the name of"):
        select((made_spec("a"), made_spec("a")), Options())


def test_models_not_fetched_are_named_and_left_out():
    found = select(SPECS, Options(), lambda spec: spec.name == "mnist")
    assert found.not_fetched == ("vad",)
    assert found.models() == {"mnist": ["fp32", "fp16"]}
    assert "vad-fp32" in found.ids


@pytest.mark.parametrize(
    ("argument", "answer"),
    [
        ("suites", True),
        ("suites/test_outputs.py", True),
        (".", True),
        ("tests", False),
        ("tests/test_x.py", False),
    ],
)
def test_a_run_concerns_the_suites_if_its_arguments_touch_them(tmp_path, argument, answer):
    bundled = tmp_path / "suites" / "models"
    bundled.mkdir(parents=True)
    assert concerns([Path(tmp_path, argument)], [bundled]) is answer
