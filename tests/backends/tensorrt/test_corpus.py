"""What real TensorRT printed, version by version, through every reader of the harness.

Each file of tests/tensorrt_corpus/ says where its facts come from and what must become of them; names are
shortened.  What could be regenerated with the real builder of TensorRT-RTX is, in test_corpus_rtx.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.backends.tensorrt.builder.calibration import parse
from harness.backends.tensorrt.dump import layers_from_dump
from harness.backends.tensorrt.errors import failed_run, not_loaded
from harness.backends.tensorrt.layers import EngineLayer, count_precisions, layers_from_json
from harness.backends.tensorrt.log import LAYERS, Message, words
from harness.backends.tensorrt.network import parse_onnx
from harness.errors import BuildError, DataError

CORPUS = Path(__file__).parents[2] / "tensorrt_corpus"
FAMILIES = {"8", "10.0-10.4", "10.5-10.9", "10.10", "11", "rtx"}
VERSION = "TensorRT here"


@dataclass(frozen=True)
class Item:
    """One file: where its facts are from, of what kind its text is, and what must become of it."""

    path: Path
    head: dict[str, str]
    text: str

    @property
    def expect(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.head["expect"])
        return found

    def messages(self) -> list[Message]:
        return [Message(*line.split(": ", 1)) for line in self.text.splitlines()]


def read(path: Path) -> Item:
    head, _, text = path.read_text().partition("\n---\n")
    return Item(path, dict(line.split(": ", 1) for line in head.splitlines()), text.rstrip("\n"))


ITEMS = [read(path) for path in sorted(CORPUS.rglob("*.txt"))]


def of(*kinds: str) -> pytest.MarkDecorator:
    chosen = [item for item in ITEMS if item.head["kind"] in kinds]
    names = [f"{item.path.parent.name}-{item.path.stem}" for item in chosen]
    return pytest.mark.parametrize("item", chosen, ids=names)


def test_the_corpus_is_whole() -> None:
    assert len(ITEMS) >= 40
    assert {item.path.parent.name for item in ITEMS} == FAMILIES
    assert all(item.head.keys() >= {"source", "version", "kind", "expect"} for item in ITEMS)
    assert {item.head["kind"] for item in ITEMS} == {
        "dump", "inspector", "load", "run", "build", "parser", "calibration",
    }  # fmt: skip


def summary(layers: tuple[EngineLayer, ...], wanted: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"layers": len(layers), "precisions": count_precisions(layers)}
    if "nodes" in wanted:
        found["nodes"] = list(dict.fromkeys(node for layer in layers for node in layer.nodes))
    return found


@of("dump")
def test_lists_of_layers(item: Item) -> None:
    listed = layers_from_dump(item.text)
    wanted = item.expect
    assert summary(listed.layers, wanted) | {"unread": len(listed.unread)} == wanted
    assert all(layer.told for layer in listed.layers)


@of("inspector")
def test_answers_of_the_inspector(item: Item) -> None:
    assert summary(layers_from_json(item.text), item.expect) == item.expect


@of("load")
def test_plans_that_do_not_load(item: Item) -> None:
    found = not_loaded(None, VERSION, "GPU", item.messages(), 5, 10)
    assert item.expect["says"] in found
    assert item.messages()[0].text in found


@of("run")
def test_runs_that_fail(item: Item) -> None:
    assert item.expect["says"] in failed_run(item.messages(), 5, 10)


@of("build")
def test_builds_that_fail(item: Item) -> None:
    assert item.expect["says"] in words(item.messages())


@of("parser")
def test_what_the_parser_refuses(item: Item) -> None:
    told = json.loads(item.text)
    names = {"node_name": told["name"], "node_operator": told["op"]} if "name" in told else {}
    values = {"node": told["node"], "code": SimpleNamespace(name=told["code"]), "desc": told["desc"], **names}
    error = SimpleNamespace(**{key: lambda value=value: value for key, value in values.items()})
    parser: Any = SimpleNamespace(parse_from_file=lambda _: False, num_errors=1, get_error=lambda _: error)
    with pytest.raises(BuildError) as raised:
        parse_onnx(parser, SimpleNamespace(messages=[]), Path("m.onnx"))  # type: ignore[arg-type]
    assert item.expect["says"] in str(raised.value)


@of("calibration")
def test_calibration_caches(item: Item) -> None:
    wanted = item.expect
    if "error" in wanted:
        with pytest.raises(DataError, match=wanted["error"]):
            parse(item.text, item.path.name)
        return
    table = parse(item.text, item.path.name)
    assert (table.algorithm, len(table.ranges)) == (wanted["algorithm"], wanted["tensors"])
    for name, largest in wanted["largest"].items():
        assert table.ranges[name] == pytest.approx(largest, rel=1e-4)


@of(*{item.head["kind"] for item in ITEMS})
def test_no_reader_falls_over_the_words_of_another(item: Item) -> None:
    """Whatever a text is, each reader makes data of it or one error, and no line is lost in silence."""
    listed = layers_from_dump(item.text)
    lines = [line for line in item.text.splitlines() if line.strip() and f"{line}\n" not in LAYERS]
    kept = item.text.split("\n\nI/O Tensors:")[0].splitlines()
    assert len(listed.layers) + len(listed.unread) == len([line for line in kept if line in lines])
    for reader in (layers_from_json, lambda text: parse(text, "text")):
        try:
            reader(item.text)
        except (BuildError, DataError):
            continue
    said = [Message("ERROR", line) for line in item.text.splitlines()]
    assert not_loaded(None, VERSION, "GPU", said, 5, 10)
    assert failed_run(said, 5, 10)
