"""Options: parsed, refused in one line, shown and repeated in commands."""

from pathlib import Path
from typing import get_args

import pytest

from harness.errors import UsageError
from harness.flags import FLAGS
from harness.options import Effort, Options, parse_bytes
from harness.precision import Precision


def test_no_values_give_the_defaults():
    assert Options.parse({}) == Options()


def test_values_are_taken(tmp_path):
    found = Options.parse(
        {
            "trt_spec": [str(tmp_path)],
            "trt_precision": ["fp16", "int8+fp16"],
            "trt_no_code": True,
            "trt_strict": True,
        }
    )
    assert found.specs == (tmp_path,)
    assert found.precisions == (Precision.FP16, Precision.INT8_FP16)
    assert found.strict
    assert not found.allow_code


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"trt_precision": ["fp17"]}, ["--trt-precision", "'fp17'", "fp32, tf32, fp16"]),
        ({"trt_backend": "cuda"}, ["--trt-backend", "'cuda'", "onnxruntime"]),
        ({"trt_spec": ["/no/such/spec.toml"]}, ["--trt-spec", "/no/such/spec.toml", "no such file"]),
        ({"trt_onnx": ["/no/such.onnx"]}, ["--trt-onnx", "/no/such.onnx"]),
        ({"trt_layer_memory": "much"}, ["--trt-layer-memory", "'much'", "KiB"]),
        ({"trt_cuda": "cupy"}, ["--trt-cuda", "'cupy'", "cuda-python, pycuda"]),
        ({"trt_layer_memory": "0"}, ["--trt-layer-memory", "> 0"]),
        ({"trt_spec": ["~nobody-here/s"]}, ["--trt-spec = '~nobody-here/s'", "no home folder"]),
        ({"trt_cache_dir": "~nobody-here"}, ["--trt-cache-dir = '~nobody-here'", "no home folder"]),
        ({"trt_report_dir": "~nobody-here"}, ["--trt-report-dir = '~nobody-here'", "no home folder"]),
        ({"trt_baseline": "~nobody-here"}, ["--trt-baseline = '~nobody-here'", "no home folder"]),
        ({"trt_cuda_graph": True}, ["--trt-cuda-graph: needs --trt-provider CUDAExecutionProvider"]),
        (
            {"trt_backend": "tensorrt", "trt_provider": "CPUExecutionProvider"},
            ["--trt-provider = 'CPUExecutionProvider'", "the backend onnxruntime, not tensorrt"],
        ),
    ],
)
def test_a_mistake_is_one_line_that_names_option_value_and_rule(values, words):
    with pytest.raises(UsageError) as error:
        Options.parse(values)
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize(
    ("text", "size"), [("1", 1), ("2KiB", 2048), ("512 MiB", 2**29), ("3GiB", 3 * 2**30)]
)
def test_bytes_have_units(text, size):
    assert parse_bytes("--x", text) == size


@pytest.mark.parametrize("flag", FLAGS, ids=lambda flag: flag.name)
def test_every_option_has_the_prefix_and_tells_its_default(flag):
    assert flag.name.startswith("--trt-")
    assert "(default: " in flag.settings["help"]


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("TRT_HARNESS_CACHE", str(tmp_path))
    assert Options().cache_dir == tmp_path


def test_arguments_repeat_what_a_reproduction_needs():
    options = Options(specs=(Path("a b/spec.toml"),), backend="onnxruntime", strict=True)
    assert options.arguments() == ["--trt-spec=a b/spec.toml", "--trt-backend=onnxruntime", "--trt-strict"]


def test_how_cuda_is_used_is_repeated():
    options = Options.parse(
        {"trt_provider": "CUDAExecutionProvider", "trt_cuda": "pycuda", "trt_cuda_graph": True}
    )
    assert options.arguments()[1:] == ["--trt-cuda=pycuda", "--trt-cuda-graph"]


def test_the_baseline_that_a_test_fails_against_is_repeated():
    options = Options.parse({"trt_baseline": "nights", "trt_interleave": True})
    assert options.arguments() == ["--trt-baseline=nights", "--trt-interleave"]


def test_changed_names_only_what_differs():
    assert Options().changed() == []
    assert Options(models=("a", "b")).changed() == ["models=a,b"]


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch):
    for name in ("HOME", "XDG_CACHE_HOME", "TRT_HARNESS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as where the user has no entry either
    with pytest.raises(UsageError, match="set TRT_HARNESS_CACHE"):
        Options.parse({})


def test_words_of_the_options_are_those_of_the_rooms_that_know_them():
    from harness import flags, precision, records

    assert tuple(precision.Precision) == flags.PRECISIONS
    assert records.ALLOWABLE == flags.ALLOWABLE
    assert get_args(Effort) == flags.EFFORTS
