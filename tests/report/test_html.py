"""report.html and trend.html: complete, escaped, and working in a browser."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.records import Record
from harness.report.baseline import diff
from harness.report.merge import merge
from harness.report.pages import html, payload, trend
from harness.report.results import Results
from tests.helpers.chromium import needs_chromium, visit
from tests.helpers.results import (
    MACHINE,
    big,
    example,
    latency_record,
    layers_record,
    loop_record,
    model_records,
    outputs_record,
    run,
)

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "a\nb",
    "\"'&",
    "\x00\u2028",
    "x" * 10_000,
]


def embedded(page: str) -> dict:
    return json.loads(
        re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1]
    )


def without_scripts(page: str) -> str:
    return re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_reach_the_page_as_text_only(name):
    records = [outputs_record(name, name, backend=name, profile=name, message=name, verdict="fail")]
    page = html.page(run(*records, name=name, not_fetched=(name,)), diff([outputs_record("other")], records))
    assert embedded(page)["models"][0]["name"] == name
    body = without_scripts(page)
    assert "<img src=x" not in body
    assert "alert(1)<" not in body
    assert len(re.findall(r"<script", page)) == 4


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_survives_embedding(name, message):
    page = html.page(run(outputs_record(name, message=message, verdict="fail")))
    model = embedded(page)["models"][0]
    assert (model["name"], model["failures"][0]["message"]) == (name, message)


def test_the_page_needs_no_network():
    body = html.page(example())
    assert not re.findall(r'(?:src|href)="(?!#)[^"]*"', without_scripts(body))
    assert "default-src 'none'" in body


def test_an_empty_run_makes_a_page():
    page = html.page(Results("empty", "2026-06-01T00:00:00+00:00"))
    assert "No model was checked in this run." in page
    assert "was interrupted" in page


def test_the_matrix_shows_each_case_with_its_worst_verdict():
    page = without_scripts(html.page(run(outputs_record(), outputs_record(profile="large", verdict="fail"))))
    assert re.search(r'<td class="fail" .*?<span>✗ fail</span><small>mre 2.0e-04', page)


def test_differences_are_listed_regressions_first_and_agreement_is_counted():
    slow = [latency_record("a"), latency_record("a", seed=5)]
    old = [*slow, latency_record("b", machine=MACHINE | {"driver": "9"}), outputs_record("c")]
    new = [latency_record("a", p50_s=2e-3), latency_record("b"), outputs_record("c"), outputs_record("d")]
    page = without_scripts(html.page(run(*new), diff(old, new)))
    assert "1 regression, 1 not comparable, 1 new, 4 same." in page
    assert page.index("badge regression") < page.index("badge not-comparable")
    assert "badge same" not in page


def test_records_without_data_of_their_kind_do_not_break_the_page():
    kinds = ("engine", "outputs", "accuracy", "layers", "latency", "search", "metamorphic", "loop")
    bare = [dataclasses.replace(outputs_record(), kind=kind, data={}) for kind in kinds]
    wrong = dict.fromkeys(("histograms", "host", "manifest", "comparison", "creators", "advice"), 3)
    wrong |= {"layers": [3], "p50_s": "nan", "mre": "inf", "forced": ["nan"], "free": 3, "tokens": 3}
    odd = [dataclasses.replace(outputs_record(), kind=kind, data=wrong) for kind in kinds]
    assert embedded(html.page(run(*bare, *odd)))["models"][0]["cases"]


def test_a_loop_has_both_modes_by_step_and_what_differs():
    loop = embedded(html.page(run(loop_record())))["models"][0]["loops"][0]
    assert (len(loop["forced"]), len(loop["free"])) == (20, 20)
    assert loop["first_over"]["free"]["step"] == 19
    assert [flip["tie"] for flip in loop["tokens"]["flips"]] == [True, False]
    assert loop["tokens"]["got"][0][11] == 7


def test_layer_rows_are_columns_of_short_numbers():
    layers = payload.models([layers_record(count=4)])[0]["layers"][0]
    row = dict(zip(payload.LAYER_COLUMNS, layers["rows"][0], strict=True))
    assert row["shape"] == "8x128x768"
    assert len(str(row["error"])) < 12
    assert layers["creators"] == [2]


def test_a_thousand_cases_and_twenty_thousand_layers_fit_in_15_mb():
    found = big()
    assert sum(len(r.data["layers"]) for r in found.records if r.kind == "layers") == 20_000
    page = html.page(found)
    assert sum(len(model["cases"]) for model in embedded(page)["models"]) == 1000
    assert len(page.encode()) < 15e6


def nights(count: int = 6, slow_from: int = 99) -> list[Results]:
    found = []
    for night in range(count):
        slower = 1.2 if night >= slow_from else 1.0
        records = [latency_record("m", p50_s=1e-3 * slower, seed=night), outputs_record("m")]
        packages = {"onnxruntime": "1.31" if night < 3 else "1.32"}
        started = f"2026-06-{night + 1:02d}T02:00:00+00:00"
        found.append(run(*records, name=f"n{night}", started=started, environment={"packages": packages}))
    return found


def test_a_trend_has_every_case_and_marks_changes_of_the_environment():
    assert trend.changes(nights()) == [{"at": 3, "run": "n3", "texts": ["onnxruntime: 1.31 -> 1.32"]}]
    latency, outputs = trend.cases(nights(slow_from=5))
    assert (latency["kind"], len(latency["figures"]["p50_s"])) == ("latency", 6)
    assert latency["change"] == pytest.approx(0.2, abs=0.02)
    assert outputs["figures"]["mre"] == [2e-4] * 6


def test_a_case_missing_from_some_runs_has_gaps():
    runs = nights(3)
    runs[1] = dataclasses.replace(runs[1], records=runs[1].records[:1])
    outputs = trend.cases(runs)[1]
    assert outputs["figures"]["mre"] == [2e-4, None, 2e-4]


def test_a_failure_without_figures_draws_no_empty_chart():
    failed = Record("latency", "m", "fp16", "onnxruntime", "fail")
    cases = trend.cases([*nights(2), run(failed, name="z", started="2026-07-01T02:00:00+00:00")])
    assert [case["kind"] for case in cases] == ["latency", "outputs"]


def history(*records: Record) -> Any:
    """The case of a trend over one run for each of `records`."""
    runs = [
        run(record, name=f"n{night}", started=f"2026-06-{night + 1:02d}T02:00:00+00:00")
        for night, record in enumerate(records)
    ]
    return trend.cases(runs)[0]


def test_a_figure_that_is_no_number_is_the_newest_and_has_no_change():
    found = history(outputs_record(), outputs_record(), outputs_record(mre="nan"))
    assert str(found["figures"]["mre"]) == "[0.0002, 0.0002, nan]"
    assert found["change"] is None
    assert history(outputs_record(mre="inf"), outputs_record(), outputs_record())["change"] == 0.0


def test_the_change_of_a_latency_is_that_on_the_newest_runs_machine():
    other = [latency_record(p50_s=5e-3, machine=MACHINE | {"device": "other"}) for _ in range(2)]
    assert history(latency_record(), *other[:1])["change"] is None
    assert history(latency_record(), *other, latency_record())["change"] == 0.0


def test_a_drop_that_changes_its_sign_has_no_relative_change():
    drops = [dataclasses.replace(outputs_record(), kind="accuracy", data={"drop": d}) for d in (-1e-3, 2e-3)]
    assert history(*drops)["change"] is None


def test_a_trend_has_each_run_once_and_oldest_first_where_some_are_merged():
    first, second, third = nights(3)
    page = trend.page([merge([first, third]).results, first, second])
    starts = [part.partition('"')[0] for part in page.split('"started":"')[1:]]
    assert starts == [night.started for night in (first, second, third)]


EVERY_PART = """
  const parts = [...document.querySelectorAll("#detail section")];
  found.parts = parts.map((part) => part.dataset.title);
  found.plots = await drawn(document.getElementById("detail"));
  found.boxes = document.querySelectorAll(".plot").length;
  found.broken = document.documentElement.dataset.broken;
"""


@pytest.mark.slow
@needs_chromium
def test_every_part_of_a_model_renders_without_a_word_on_the_console(tmp_path):
    seen = visit(html.page(example()), tmp_path, EVERY_PART)
    parts = [
        "What failed",
        "Cases",
        "Outputs",
        "Layers",
        "Worst tensors",
        "Loop",
        "FP32 search",
        "Latency",
        "Engines",
    ]
    assert seen.found == {"parts": parts, "plots": seen.found["boxes"], "boxes": 15}
    assert seen.console == []


@pytest.mark.slow
@needs_chromium
def test_filters_links_tables_and_keys_work(tmp_path):
    script = """
      const visible = (what) => [...document.querySelectorAll(what)].filter((one) => !one.hidden).length;
      const rows = () => visible("#matrix tbody tr");
      found.all = rows();
      document.querySelector('[data-verdict="engine-suspect"]').click();
      found.suspect = rows();
      found.pressed = document.querySelector('[data-verdict="engine-suspect"]').getAttribute("aria-pressed");
      document.getElementById("clear").click();
      const find = document.getElementById("find");
      find.value = "detect"; find.dispatchEvent(new Event("input"));
      found.named = rows();
      found.said = document.getElementById("shown").textContent;
      document.getElementById("clear").click();
      const precision = document.getElementById("by-precision");
      precision.value = "bf16"; precision.dispatchEvent(new Event("change"));
      found.columns = visible("#matrix thead th");
      document.getElementById("clear").click();
      document.querySelectorAll("#matrix tbody a")[0].click();
      await pause(50);
      found.title = document.activeElement.textContent;
      const layers = document.querySelector('[data-title="Layers"]');
      const first = () => layers.querySelector("tbody td").textContent;
      const [back, next] = [...layers.querySelectorAll(".bar button")];
      found.first = first(); next.click(); found.second = first(); found.last = next.disabled;
      layers.querySelectorAll("thead button")[4].click(); found.sorted = first();
      found.sort = layers.querySelectorAll("thead th")[4].getAttribute("aria-sort");
      const word = layers.querySelector('input[type="search"]');
      word.value = "layernorm"; word.dispatchEvent(new Event("input"));
      found.filtered = layers.querySelectorAll("tbody tr").length;
      document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
      found.back = document.activeElement.textContent;
      const fields = [...document.querySelectorAll("input, select")];
      found.unnamed = fields.filter((field) => !field.labels.length && !field.ariaLabel).length;
    """
    seen = visit(html.page(example()), tmp_path, script)
    assert seen.found == {
        "all": 6, "suspect": 1, "pressed": "true", "named": 1, "said": "1 of 6 models", "columns": 2,
        "title": "classifier ◐ precision-limited", "first": "0", "second": "50", "last": True, "sorted": "59",
        "sort": "descending", "filtered": 12, "back": "classifier", "unnamed": 0,
    }  # fmt: skip
    assert seen.console == []


@pytest.mark.slow
@needs_chromium
def test_hostile_names_run_nothing_in_the_browser(tmp_path):
    records = [r for name in HOSTILE for r in model_records(name, ("fp32",), layers=3)]
    records = [dataclasses.replace(r, message=r.model, profile=r.model, warnings=(r.model,)) for r in records]
    script = """
      window.alerts = 0; window.alert = () => { window.alerts += 1; };
      for (let i = 0; i < data.models.length; i++) {
        show(i, true);
        await drawn(document.getElementById("detail"));
      }
      found.alerts = window.alerts;
      found.images = document.querySelectorAll("#detail img").length;
    """
    seen = visit(html.page(run(*records)), tmp_path, script)
    assert seen.found == {"alerts": 0, "images": 0}
    assert seen.console == []


@pytest.mark.slow
@needs_chromium
def test_a_thousand_cases_open_within_two_seconds(tmp_path):
    script = """
      const entry = performance.getEntriesByType("navigation")[0];
      found.ready = document.documentElement.dataset.ready;
      found.seconds = entry.domContentLoadedEventEnd / 1000;
      found.rows = document.querySelectorAll("#matrix tbody tr").length;
    """
    seen = visit(html.page(big()), tmp_path, script)
    assert (seen.found["ready"], seen.found["rows"]) == ("yes", 200)
    assert seen.found["seconds"] < 2.0
    assert seen.console == []


@pytest.mark.slow
@needs_chromium
def test_one_model_of_twenty_thousand_tensors_stays_usable(tmp_path):
    records = [layers_record("huge", count=20_000)]
    script = """
      const start = performance.now();
      show(0, true);
      found.plots = await drawn(document.getElementById("detail"));
      const layers = document.querySelector('[data-title="Layers"]');
      found.rows = layers.querySelectorAll("tbody tr").length;
      layers.querySelectorAll("thead button")[4].click();
      found.first = layers.querySelector("tbody td").textContent;
    """
    seen = visit(html.page(run(*records)), tmp_path, script)
    assert seen.found == {"plots": 3, "rows": 50, "first": "19999"}


@pytest.mark.slow
@needs_chromium
def test_a_plot_is_drawn_when_it_comes_into_view(tmp_path):
    script = """
      const box = document.querySelector('[data-title="Layers"] .plot');
      found.before = box.dataset.drawn === undefined;
      box.scrollIntoView();
      for (let i = 0; i < 200 && !box.dataset.drawn; i++) await pause(25);
      found.after = box.dataset.drawn;
    """
    seen = visit(html.page(example()), tmp_path, script)
    assert seen.found == {"before": True, "after": "yes"}


@pytest.mark.slow
@needs_chromium
def test_the_theme_can_be_chosen_and_plots_follow(tmp_path):
    script = """
      const theme = document.getElementById("theme");
      const box = document.querySelector(".plot");
      await drawn(document.querySelector('[data-title="Layers"]'));
      const colour = async (name) => {
        theme.value = name;
        theme.dispatchEvent(new Event("change"));
        await pause(600);
        return [getComputedStyle(document.body).backgroundColor, box.layout.paper_bgcolor];
      };
      found.dark = await colour("dark");
      found.light = await colour("light");
    """
    seen = visit(html.page(example()), tmp_path, script)
    assert seen.found == {"dark": ["rgb(20, 23, 27)", "#14171b"], "light": ["rgb(255, 255, 255)", "#ffffff"]}


@pytest.mark.slow
@needs_chromium
def test_a_trend_draws_the_history_of_a_case(tmp_path):
    script = """
      found.rows = document.querySelectorAll("#table tbody tr").length;
      document.querySelector("#table tbody a").click();
      await pause(50);
      found.title = document.activeElement.textContent;
      found.plots = await drawn(document.getElementById("detail"));
      found.marks = document.querySelector(".plot").layout.shapes.length;
      found.broken = document.documentElement.dataset.broken;
    """
    seen = visit(trend.page(nights()), tmp_path, script)
    assert seen.found == {"rows": 2, "title": "m, fp16", "plots": 2, "marks": 1}
    assert seen.console == []
