"""Models, archives and names made to do harm: refused in one line, or shown as harmless text."""

from __future__ import annotations

import bz2
import contextlib
import io
import re
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.cli import main
from harness.data.arrays import load_array
from harness.data.inputs import Feeds
from harness.errors import DataError, ModelError, UsageError
from harness.graph import file as onnx_file
from harness.lowering.passes.normalise import normalise
from harness.report import results, summary
from harness.report.pages.html import page
from harness.spec.model_spec import DataSource
from tests.helpers.project import SUITES, write_case, write_project
from tests.helpers.results import outputs_record, run
from tests.helpers.specs import made_spec

ESCAPE = "\x1b[2J\x1b]0;owned\x07\x9b31m"
HTML = "<script>alert(1)</script><img src=x onerror=alert(2)>"
NAMES = {
    "escape": ESCAPE,
    "html": HTML,
    "long": "n" * 1_000_000,
    "backwards": "\u202etxt.exe",
    "lines": "a\r\nb\u2028c",
}


def identity(name: str = "y", dims: Any = ("n", 4), nodes: Any = None) -> onnx.ModelProto:
    nodes = nodes or [helper.make_node("Relu", ["x"], [name], f"node {name}")]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, dims) for n in ("x", name)]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)


def saved(folder: Path, model: onnx.ModelProto) -> Path:
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder / "model.onnx"


def npz(folder: Path, member: bytes, method: int = zipfile.ZIP_DEFLATED) -> Callable[[], Any]:
    with zipfile.ZipFile(folder / "data.npz", "w", method) as archive:
        archive.writestr("x.npy", member)
    return npz_of(folder / "data.npz")


def header(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue()


def test_an_archive_that_unpacks_to_gigabytes_is_refused_before_it_does(tmp_path: Path) -> None:
    size = 3 * 2**30
    path = tmp_path / "data.npz"
    npz(tmp_path, header((4,)) + bytes(16))
    raw = bytearray(path.read_bytes())
    central = raw.rindex(b"PK\x01\x02")
    raw[central + 24 : central + 28] = size.to_bytes(4, "little")
    path.write_bytes(raw)
    load = npz_of(path)
    with pytest.raises(DataError, match=rf"unpacks to {size} bytes \(limit"):
        load()


def npz_of(path: Path) -> Callable[[], Any]:
    spec = made_spec()
    return lambda: load_array(spec, "inputs.x.data", DataSource(npz=str(path), member="x"))


def test_a_packing_that_states_no_bound_is_refused(tmp_path: Path) -> None:
    load = npz(tmp_path, header((4,)) + bytes(16), zipfile.ZIP_BZIP2)
    with pytest.raises(DataError, match="packed in a way that NumPy never uses"):
        load()
    assert len(bz2.compress(bytes(10**8))) < 200


def test_an_archive_that_understates_its_size_takes_no_more_than_it_states(tmp_path: Path) -> None:
    """The directory says 144 bytes, the stream unpacks to 200 MB."""
    small, path = header((4,)), tmp_path / "data.npz"
    npz(tmp_path, small + bytes(200_000_000))
    raw = bytearray(path.read_bytes())
    stated = (len(small) + 16).to_bytes(4, "little")
    central = raw.rindex(b"PK\x01\x02")
    raw[central + 24 : central + 28] = stated
    path.write_bytes(raw)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="cannot be read"):
            npz_of(path)()
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", [(2**62, 4), (2**31, 2**31), (2**63 - 1,), (2**16, 2**16, 2**16, 2**16)])
def test_shapes_that_overflow_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"does not match|cannot be read"):
        npz(tmp_path, header(shape) + bytes(16))()
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=shape, raw_data=bytes(16))
    model = identity()
    model.graph.initializer.append(tensor)
    with pytest.raises(ModelError, match=r"its shape needs|truncated or broken"):
        onnx_file.read(saved(tmp_path, model))


@pytest.mark.parametrize("dims", [(2**62, 4), (2**63 - 1, 2**63 - 1), (-5, 4)])
def test_sizes_of_inputs_that_overflow_do_no_harm(tmp_path: Path, dims: tuple[int, ...]) -> None:
    with contextlib.suppress(UsageError):
        normalise(onnx_file.read(saved(tmp_path, identity(dims=dims))))


def test_a_feed_larger_than_the_memory_is_refused_before_it_is_made() -> None:
    spec = made_spec(profiles=[{"shapes": {"x": [2**20, 2**20]}}])
    with pytest.raises(DataError, match=r"x = \[1048576, 1048576\]: needs 4398046511104 bytes"):
        Feeds(spec).feed({"x": (2**20, 2**20)})


def test_subgraphs_a_thousand_deep_are_refused_quickly(tmp_path: Path) -> None:
    payload = identity().graph.SerializeToString()
    for _ in range(1000):
        payload = nested(payload)
    started, model = time.monotonic(), onnx.ModelProto(ir_version=10)
    model.opset_import.add(version=19)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString() + field(7, payload))
    with pytest.raises(ModelError, match=r"truncated|nested deeper"):
        onnx_file.read(path)
    assert time.monotonic() - started < 5


def nested(graph: bytes) -> bytes:
    """A graph whose only node holds `graph`, as wire format: protobuf itself would refuse to build it."""
    attribute = field(1, b"body") + field(6, graph) + bytes([20 << 3 & 0x7F | 0x80, 1, 5])
    return field(1, field(4, b"Loop") + field(5, attribute)) + field(2, b"g")


def field(number: int, content: bytes) -> bytes:
    size, length = bytearray(), len(content)
    while length > 0x7F:
        size.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([number << 3 | 2, *size, length]) + content


@pytest.mark.parametrize("name", NAMES)
def test_hostile_names_are_text_wherever_they_are_shown(name: str, tmp_path: Path, capsys: Any) -> None:
    hostile = NAMES[name]
    record = outputs_record(
        "net",
        verdict="fail",
        message=f"{hostile}: mre 1",
        data={"outputs": [{"name": hostile}]},
        warnings=(hostile,),
    )
    found = run(record)
    html, text = page(found), "\n".join(summary.lines(found))
    assert "<script>alert" not in html.replace("\\u003cscript", "")
    assert "<img src=x" not in html
    assert "<script>alert" not in "".join(text.split("```")[::2]), "only inside a block of code"
    results.write(found, tmp_path)
    main(["diff", str(tmp_path), str(tmp_path), "--all", "--github"])
    main(["report", "annotations", str(tmp_path)])
    assert_harmless(capsys.readouterr().out)


def assert_harmless(text: str) -> None:
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028\u2029]", text), text[:500]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_failing_model_with_hostile_names_keeps_the_terminal_whole(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    root, hostile = pytester.path, NAMES[name]
    monkeypatch.setenv("TRT_HARNESS_CACHE", str(root / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(SUITES.parent))
    write_project(root, "engines", "outputs", "layers")
    tight = "[precision.fp16.tolerance]\nexpected = 1e-12\nlimit = 1e-12\n"
    write_case(root / "suites/models/net", extra=tight)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], [f"h{hostile}"], f"matmul{hostile}"),
        helper.make_node("Relu", [f"h{hostile}"], [f"y{hostile}"], f"relu{hostile}"),
    ]
    model = identity(f"y{hostile}", ("n", 4), nodes)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 2
    model.graph.initializer.append(numpy_helper.from_array(np.full((4, 2), 0.3, "f4"), "w"))
    saved(root / "suites/models/net", model)
    done = pytester.runpytest_subprocess("suites", "--trt-backend=onnxruntime", "--color=no")
    text = done.stdout.str() + done.stderr.str()
    assert "1.0e-12" in text, text[-3000:]
    assert_harmless(text.replace("\r", ""))
    assert len(text) < 300_000
    (report,) = root.glob("reports/*/report.html")
    assert "<script>alert(1)" not in report.read_text()
