"""A draft says what it found: whether it runs as it is, and what it could not find."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from harness.cli import main
from harness.drafting import draft as spec_draft
from harness.drafting.candidates import values_to_try
from harness.drafting.guesses import draft_inputs
from harness.drafting.result import Draft
from harness.drafting.trial import explore
from harness.errors import DataError
from harness.graph import file as onnx_file
from harness.options import Options
from harness.plugin.preflight import check_spec
from harness.spec.file import read_spec
from tests.helpers.lowering import proto


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spec_draft, "isolated", lambda function, *args, **_: function(*args))


def explored(folder: Path, text: str) -> Draft:
    onnx.save(proto(text), folder / "m.onnx")
    return explore(str(folder / "m.onnx"), draft_inputs(onnx_file.read(folder / "m.onnx")), 20.0)


BROKEN = {
    "bfloat16": "g (bfloat16[N,4] x) => (bfloat16[N,4] y) <bfloat16[4,4] w = {"
    + "1," * 15
    + "1}> { y = MatMul(x, w) }",
    "no shape": "g (float[3] x) => (float[7] y) <int64[1] s = {7}> { y = Reshape(x, s) }",
    "never finite": "g (float[N,4] x) => (float[N,4] y) <float z = {0}> { a = Sub(x, x) y = Div(z, a) }",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_spec_that_does_not_run_says_so_and_ends_with_1(kind: str, tmp_path: Path, capsys: Any) -> None:
    onnx.save(proto(BROKEN[kind]), tmp_path / "model.onnx")
    assert main(["init", str(tmp_path / "model.onnx")]) == 1
    text = (tmp_path / "spec.toml").read_text()
    assert "it runs as it is" not in text
    assert "it does not run as it is:" in text.splitlines()[0]
    assert "which does not run as it is" in capsys.readouterr().out
    read_spec(tmp_path / "spec.toml")


def test_a_spec_that_runs_says_so_and_ends_with_0(tmp_path: Path) -> None:
    onnx.save(proto("g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }"), tmp_path / "model.onnx")
    assert main(["init", str(tmp_path / "model.onnx")]) == 0
    assert "it runs as it is" in (tmp_path / "spec.toml").read_text()


def test_a_batch_that_the_graph_fixes_is_told(tmp_path: Path) -> None:
    text = "g (float[N,4] x) => (float[1,4] y) <int64[2] s = {1, 4}> { y = Reshape(x, s) }"
    found = explored(tmp_path, text)
    assert found.shapes("max") == {"x": [1, 4]}
    assert any("the batch is 1, though the file leaves it open" in remark for remark in found.remarks)
    free = explored(tmp_path, "g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }")
    assert not free.remarks


@pytest.mark.parametrize("dims", ["N,H,W,3", "N,H,W,1", "N,H,W,4", "N,3,H,W"])
def test_images_have_two_sides(dims: str, tmp_path: Path) -> None:
    found = explored(tmp_path, f"g (float[{dims}] x) => (float[{dims}] y) {{ y = Relu(x) }}")
    shape = found.shapes("min")["x"]
    assert min(shape[1:3] if dims.endswith(("3", "1", "4")) else shape[2:]) >= 16


def test_ids_differ_wherever_different_ones_run(tmp_path: Path) -> None:
    """A table that only small ids fit, which the graph does not show: an addition hides the Gather."""
    table = ", ".join(["0.5"] * 24)
    text = f"""g (int64[N,L] ids) => (float[N,L,2] y) <float[12,2] t = {{{table}}}, int64 one = {{1}}> {{
      k = Add(ids, one) y = Gather(t, k) }}"""
    values = explored(tmp_path, text).values["ids"]
    assert float(values["high"]) - float(values["low"]) > 1


def test_flags_are_set_before_ids_become_one_number() -> None:
    onnx_text = "g (int64[N,L] ids, int64[N,L] use_cache) => (int64[N,L] y) { y = Add(ids, use_cache) }"
    import onnx_ir as ir

    tried = list(values_to_try(draft_inputs(ir.serde.deserialize_model(proto(onnx_text)))))
    constant = [float(t["ids"]["high"]) - float(t["ids"]["low"]) == 1 for t in tried]
    assert constant == sorted(constant)
    assert any(t["use_cache"].get("low") == 1 and not c for t, c in zip(tried, constant, strict=True))


def test_memory_is_bounded_and_the_bound_is_an_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    asked: list[int] = []

    def record(function: Any, *args: Any, memory_bytes: int, **_: Any) -> Any:
        asked.append(memory_bytes)
        return function(*args)

    monkeypatch.setattr(spec_draft, "isolated", record)
    onnx.save(proto("g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }"), tmp_path / "model.onnx")
    assert main(["init", str(tmp_path / "model.onnx"), "--force"]) == 0
    assert main(["init", str(tmp_path / "model.onnx"), "--force", "--memory=0.5"]) == 0
    assert asked == [2 * 2**30, 2**29]
    assert main(["init", str(tmp_path / "model.onnx"), "--force", "--memory=0"]) == 4
    assert "--memory = 0.0: must be above 0" in capsys.readouterr().err


def test_a_long_trial_tells_that_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    import time

    monkeypatch.setattr(spec_draft, "TELL_S", 0.05)
    monkeypatch.setattr(spec_draft, "isolated", lambda f, *args, **_: (time.sleep(0.3), f(*args))[1])
    onnx.save(proto("g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }"), tmp_path / "model.onnx")
    assert main(["init", str(tmp_path / "model.onnx")]) == 0
    assert "trying shapes and values since" in capsys.readouterr().err


SPEC = """
name = "net"
model.onnx = "model.onnx"
precisions = ["fp32"]
[inputs.x]
dtype = "float32"
data = { npz = "data.npz", member = "x" }
[[profiles]]
shapes.x = { min = [1, 4], opt = [2, 4], max = [4, 4] }
"""


@pytest.mark.parametrize("row", [0, 3, 99])
def test_nan_in_data_is_found_before_the_first_engine(row: int, tmp_path: Path) -> None:
    data = np.ones((100, 4), np.float32)
    data[row:, 1] = np.nan
    np.savez(tmp_path / "data.npz", x=data)
    (tmp_path / "spec.toml").write_text(SPEC)
    onnx.save(proto("g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }"), tmp_path / "model.onnx")
    spec = read_spec(tmp_path / "spec.toml")
    with pytest.raises(DataError, match=rf"data\.npz:x.*row {row} holds 1 NaN of 4 elements"):
        check_spec(spec, Options())
    text = "g (float[N,4] x) => (float[N,4] y) <float z = {0}> { n = IsNaN(x) y = Where(n, z, x) }"
    onnx.save(proto(text), tmp_path / "model.onnx")
    check_spec(spec, Options())
