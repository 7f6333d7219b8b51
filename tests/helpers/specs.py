"""Specs made in memory."""

from harness.spec.model_spec import ModelSpec


def made_spec(name="net", precisions=("fp32", "fp16"), **more):
    """A spec of one input `x` of shape 1x4."""
    return ModelSpec.model_validate(
        {
            "name": name,
            "model": {"onnx": "model.onnx"},
            "inputs": {"x": {"dtype": "float32", "data": {"generator": "normal"}}},
            "profiles": [{"shapes": {"x": {"min": [1, 4], "opt": [2, 4], "max": [4, 4]}}}],
            "precisions": list(precisions),
            **more,
        }
    )
