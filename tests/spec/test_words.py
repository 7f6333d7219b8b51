"""A wrong value at any key of a spec is told in this project's words, never in those of its validator."""

import copy
import json
import re

import pytest
from pydantic import ValidationError

from harness.spec.errors import RULES, spec_error
from harness.spec.model_spec import ModelSpec

DATA = {"generator": "normal", "low": None, "high": None, "mean": 0.0, "std": 1.0, "seed": 1}
FULL = {
    "name": "n",
    "description": "d",
    "license": "l",
    "model": {"onnx": "m.onnx", "sha256": "0" * 64},
    "assets": {"a": {"package": "a==1", "member": "m", "sha256": "0" * 64}},
    "inputs": {"x": {"dtype": "float32", "batch_axis": 0, "data": DATA}},
    "outputs": {"y": {"compare": "numeric", "mismatch_fraction": 0.1, "scale": 1.0}},
    "profiles": [{"name": "p", "shapes": {"x": {"min": [1], "opt": [1], "max": [1], "multiple_of": [1]}}}],
    "precisions": ["fp32"],
    "precision": {
        "fp16": {
            "tolerance": {"expected": 1e-3, "limit": 1e-2, "row": 1.0, "element": 1.0},
            "fp32_nodes": ["a"],
            "fp32_op_types": ["a"],
            "calibration": {"method": "auto", "percentile": 99.9, "samples": 3, "data": {"x": DATA}},
        }
    },
    "task": {"metric": "top1", "output": "y", "labels": {"npz": "a", "member": "b"}, "allowed_drop": 0.1},
    "benchmark": {"batch_sizes": [1]},
    "build": {
        "typing": "strong",
        "tf32": False,
        "workspace_bytes": 1,
        "memory_pools": {"a": 1},
        "optimization_level": 1,
        "hardware_compatibility": "ampere_plus",
        "plugins": ["a"],
        "dla_core": 0,
        "compute_capabilities": ["8.9"],
    },
    "exceptions": [{"property": "static", "reason": "r"}],
}
WRONG = [
    True,
    3,
    -1,
    10**30,
    1.5,
    float("inf"),
    float("nan"),
    "",
    "x",
    "\n",
    "x" * 5000,
    [],
    {},
    [1.5],
    {"a": 1},
]
FOREIGN = re.compile(r"\b(Input|input should|String|Tuple|Dictionary|valid|array|object|item|Field)\b")


def places(value, at=()):
    """The path to every value in nested tables and lists."""
    yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*at, key))


def put(at, value):
    """The full spec with `value` at one place."""
    changed = copy.deepcopy(FULL)
    table = changed
    for key in at[:-1]:
        table = table[key]
    table[at[-1]] = value
    return changed


def error_of(data):
    """What the validator finds in `data`; None if it takes it."""
    try:
        ModelSpec.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        return error
    return None


def test_the_full_spec_itself_is_right():
    assert error_of(FULL) is None


@pytest.mark.parametrize("wrong", WRONG, ids=lambda value: repr(value)[:10])
def test_wrong_values_are_told_in_words(wrong):
    for at in places(FULL):
        error = error_of(put(at, wrong)) if at else error_of(wrong)
        if error is not None:
            rule = spec_error("spec.toml", error).rule
            assert not FOREIGN.search(rule), (at, rule)


def test_every_rule_is_one_that_some_wrong_value_breaks():
    found = set()
    for at in places(FULL):
        for wrong in WRONG if at else ():
            error = error_of(put(at, wrong))
            found |= {one["type"] for one in error.errors()} if error else set()
    assert set(RULES) <= found


@pytest.mark.parametrize(
    ("at", "value", "rule"),
    [
        (("name",), 3, "must be text, in quotes"),
        (("inputs", "x", "batch_axis"), 1.5, "must be a whole number"),
        (("inputs", "x", "batch_axis"), -1, "must be >= 0"),
        (("precision", "fp16", "tolerance", "limit"), "1e-3", "must be a number"),
        (("precision", "fp16", "tolerance", "limit"), 0, "must be > 0"),
        (("precision", "fp16", "tolerance", "limit"), float("inf"), "must be a finite number"),
        (
            ("precision", "fp16", "calibration", "method"),
            "entropi",
            "one of minmax, percentile, entropy, mse",
        ),
        (("precision", "fp16", "calibration", "method"), "entropi", "did you mean 'entropy'?"),
        (("build", "tf32"), "yes", "must be true or false"),
        (("benchmark", "batch_sizes"), 8, "must be a list"),
        (("task",), "top1", "must be a table"),
        (("precisions",), [], "must not be empty"),
    ],
)
def test_the_words(at, value, rule):
    assert rule in spec_error("spec.toml", error_of(put(at, value))).rule
