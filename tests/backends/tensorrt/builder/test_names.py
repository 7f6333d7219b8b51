"""Node names and the words that parsers put beside them."""

from __future__ import annotations

from harness.backends.tensorrt.builder.names import barred, without_words
from harness.backends.tensorrt.network import node_of
from tests.helpers.tensorrt import classifier


def test_doc_strings_are_left_out_and_the_model_is_kept() -> None:
    source = classifier()
    assert without_words(source) is source
    for node in source.graph:
        node.doc_string = "File <a.py>, line 3\n | [ONNX Layer: fc]"
    stripped = without_words(source)
    assert {node.doc_string for node in stripped.graph} <= {None, ""}
    assert [node.name for node in stripped.graph] == [node.name for node in source.graph]
    assert all(node.doc_string for node in source.graph)


def test_names_that_hold_a_bar_are_found_again() -> None:
    source = classifier()
    source.graph[0].name = "conv | one"
    assert barred(source) == ("conv | one",)
    assert node_of("[ONNX Layer: conv | one | words]", barred(source)) == "conv | one"
