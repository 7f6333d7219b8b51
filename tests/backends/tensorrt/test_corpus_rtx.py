"""The items of TensorRT-RTX in the corpus, against what its builder says today.

`python -m tests.backends.tensorrt.test_corpus_rtx` writes them anew.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest

from harness.backends.base import BuildRequest
from harness.backends.tensorrt.backend import TensorRTBackend
from harness.backends.tensorrt.builder import build as trt_build
from harness.backends.tensorrt.dump import Listed, layers_from_dump
from harness.backends.tensorrt.layers import count_precisions
from harness.precision import Precision
from tests.helpers.tensorrt import LARGE, SMALL, request, rtx

FOLDER = Path(__file__).parents[2] / "tensorrt_corpus" / "rtx"
CASES: dict[str, tuple[Precision, tuple[str, ...], bool]] = {
    "dump_fp32": (Precision.FP32, (), False),
    "dump_fp16": (Precision.FP16, (), False),
    "dump_fp16_kept": (Precision.FP16, ("fc",), False),
    "dump_bf16": (Precision.BF16, (), False),
    "dump_int8": (Precision.INT8, (), False),
    "dump_int8_fp16": (Precision.INT8_FP16, (), False),
    "dump_two_profiles": (Precision.FP16, (), True),
}


def asked(name: str) -> BuildRequest:
    precision, kept, two = CASES[name]
    return request(precision, kept, (SMALL, LARGE) if two else (SMALL,))


def said(name: str) -> str:
    """The list of layers that the builder gives for a case."""
    texts: list[str] = []

    def keeping(text: str, *rest: object) -> Listed:
        texts.append(text)
        return layers_from_dump(text, *rest)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(trt_build, "layers_from_dump", keeping)
        TensorRTBackend(rtx().name, isolate=False).build(asked(name), Path(folder))
    return texts[0]


@pytest.mark.parametrize("name", CASES)
def test_the_builder_says_what_the_corpus_holds(name: str) -> None:
    head, _, text = (FOLDER / f"{name}.txt").read_text().partition("\n---\n")
    if f"version: {rtx().api.__version__}" not in head:
        pytest.skip(f"the corpus is not of {rtx().api.__version__}")
    found, held = layers_from_dump(said(name)), layers_from_dump(text)
    assert found.unread == held.unread == ()
    assert [(x.type, x.precision, x.nodes) for x in found.layers] == [
        (x.type, x.precision, x.nodes) for x in held.layers
    ]


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in CASES:
        text = said(name)
        listed = layers_from_dump(text)
        expect = {"layers": len(listed.layers), "unread": 0, "precisions": count_precisions(listed.layers)}
        source = "the builder itself, see tests/backends/tensorrt/test_corpus_rtx.py"
        head = f"source: {source}\nversion: {rtx().api.__version__}\nkind: dump\nexpect: {json.dumps(expect)}"
        (FOLDER / f"{name}.txt").write_text(f"{head}\n---\n{text.rstrip()}\n")


if __name__ == "__main__":
    main()
