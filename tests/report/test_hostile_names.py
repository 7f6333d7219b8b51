"""Text out of models in summary.md and report.html: nothing is markup, nothing grows as a square."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from harness.report import summary
from harness.report.overview import overview
from harness.report.pages.html import SHOWN_COLUMNS, page
from harness.report.results import TestOutcome
from tests.helpers.results import outputs_record, run

PIECES = (
    "<script>alert(1)</script>", "<!--", "<b>", "![i](http://x)", "[t](javascript:x)", "\n# head\n", "\n\n",
    "\r\n", "`", "```", "~~~", "|", "\\", "- item", "1. item", "===", "---", "> quote", "&lt;", "http://e.example",
    "*a*", "_b_", "\u2028", "\u202e", "\x1b[2J", "\t    code", "<https://x>", "plain", " ", "[x]: http://y",
)  # fmt: skip
TEXT = st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map("".join)
READS = MarkdownIt("gfm-like", {"html": True, "linkify": False})
HARMLESS = {"text", "softbreak", "strong_open", "strong_close", "link_open", "link_close", "code_inline"}


@settings(max_examples=100, deadline=None)
@given(TEXT, TEXT, TEXT, TEXT)
def test_no_text_becomes_markup(model: str, message: str, word: str, where: str) -> None:
    record = outputs_record(
        model, where, verdict="fail", message=message, reproduce=word, warnings=(message,)
    )
    found = run(record, name=word, environment={where: message}, not_fetched=(model,))
    found = replace(found, tests=(TestOutcome("suites/a", word),))
    text = "\n".join(summary.lines(found, trouble=message))
    assert not set("\x1b\u202e\u2028") & set(text)
    tokens = READS.parse(text)
    inline = [child for token in tokens for child in token.children or ()]
    assert not [
        token for token in tokens if token.type in ("html_block", "blockquote_open", "list_item_open")
    ]
    assert {child.type for child in inline} <= HARMLESS
    links = [child.attrGet("href") for child in inline if child.type == "link_open"]
    assert links == ["report.html", "results.json"]
    assert [t.tag for t in tokens if t.type == "heading_open"] == ["h1", "h2", "h2", "h3"]


def test_the_parser_sees_what_is_not_escaped() -> None:
    tokens = READS.parse("a <b>x</b> [t](u)\n\n- item\n")
    assert "list_item_open" in {token.type for token in tokens}
    assert {"html_inline", "link_open"} <= {child.type for token in tokens for child in token.children or ()}


def hostile(count: int) -> list[object]:
    """Models that have a precision, and kinds of records, of their own each."""
    return [outputs_record(f"m{k}", f"p{k}") for k in range(count)]


def test_the_table_of_verdicts_grows_with_the_models_alone() -> None:
    few, many = (page(run(*hostile(count))) for count in (200, 800))
    cells = [text.count('<td class="empty"') for text in (few, many)]
    assert cells[1] <= 800 * SHOWN_COLUMNS
    assert cells[1] / cells[0] < 4.5
    assert f"{800 - SHOWN_COLUMNS} more columns are not shown here" in many
    assert "more columns" not in page(run(*hostile(SHOWN_COLUMNS)))


@pytest.mark.parametrize("same", ["models", "kinds"])
def test_rows_are_found_in_linear_time(same: str) -> None:
    records = hostile(20_000)
    if same == "kinds":
        records = [replace(outputs_record("m", "p"), kind=f"k{k}") for k in range(20_000)]  # type: ignore[arg-type]
    started = time.process_time()
    assert len(overview(records)) == (20_000 if same == "models" else 1)  # type: ignore[arg-type]
    assert time.process_time() - started < 10
