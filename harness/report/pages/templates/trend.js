"use strict";
const UNITS = { mre: "mean relative error", drop: "task drop against the reference", p50_s: "milliseconds" };
const percent = (value) => (value === null ? "" : `${value >= 0 ? "+" : ""}${(value * 100).toFixed(1)} %`);
const newest = (values) => values.reduce((last, value) => (value === null ? last : value), null);
const shownFigure = (c) => { const [name] = Object.keys(c.figures); const value = newest(c.figures[name]); return name.endsWith("_s") ? seconds(value) : sci(value); };

document.getElementById("table").append(table({
  caption: "Each case with its newest figure; the change is against the median of the runs before. Choose a model to see its history",
  rows: data.cases.map((c, i) => ({ ...c, i })),
  sortBy: 6,
  columns: [
    { title: "Model", get: (c) => c.model, show: (name, c) => el("a", { class: "name", href: `#c${c.i}`, title: clipped(name, 300) }, clipped(name)) },
    { title: "Precision", get: (c) => c.precision },
    { title: "Backend", get: (c) => c.backend },
    { title: "Kind", get: (c) => c.kind },
    { title: "Verdict", get: (c) => newest(c.verdicts), show: badge },
    { title: "Newest", get: (c) => newest(Object.values(c.figures)[0]), show: (_, c) => shownFigure(c), num: true },
    { title: "Change", get: (c) => c.change, show: percent, num: true },
    { title: "Runs", get: (c) => c.verdicts.filter(Boolean).length, num: true },
    { title: "Where", get: (c) => c.where, wrap: true },
  ],
}));

function history(c) {
  const names = Object.keys(c.figures);
  const isTime = names[0].endsWith("_s");
  const factor = isTime ? 1e3 : 1;
  const x = data.runs.map((run) => run.started);
  const labels = data.runs.map((run, i) => `${escaped(clipped(run.run, 40))}: ${c.verdicts[i] ?? "not run"}`);
  return plot(`${UNITS[names[0]]} of ${clipped(c.model, 60)}, ${c.precision}, over the runs; upright lines mark a changed environment`, () => ({
    traces: [
      ...names.map((name, k) => ({
        type: "scatter", mode: "lines+markers", name: name.replace("_s", ""), x, y: c.figures[name].map((value) => (value === null ? null : value * factor)), text: labels,
        hovertemplate: "%{text}<br>%{y:.4g}<extra></extra>", line: { color: series(k), dash: dashes[k % 4] }, connectgaps: true,
        marker: { size: 7, symbol: k ? "circle" : c.verdicts.map((verdict) => (verdict === "pass" || verdict === null ? "circle" : "x")) },
        error_y: k === 0 && c.spread.length ? { type: "data", symmetric: false, thickness: 1, array: c.spread.map((s, i) => (s && c.figures[name][i] !== null ? (s[1] - c.figures[name][i]) * factor : 0)), arrayminus: c.spread.map((s, i) => (s && c.figures[name][i] !== null ? (c.figures[name][i] - s[0]) * factor : 0)) } : undefined,
      })),
    ],
    layout: {
      xaxis: { title: { text: "run" } }, yaxis: { title: { text: UNITS[names[0]] }, type: names[0] === "mre" ? "log" : "linear", exponentformat: "power", rangemode: "tozero" },
      shapes: [
        ...data.changes.map((change) => ({ type: "line", x0: x[change.at], x1: x[change.at], yref: "paper", y0: 0, y1: 1, line: { color: css("--muted"), dash: "dot", width: 1.5 } })),
        ...(c.limit && !isTime ? [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: c.limit, y1: c.limit, line: { color: css("--bad"), dash: "dash", width: 1 } }] : []),
      ],
    },
  }));
}

function show(focus) {
  const found = /^#c(\d+)$/.exec(location.hash);
  const chosen = found ? data.cases[Number(found[1])] : [...data.cases].sort((a, b) => b.severity - a.severity)[0];
  if (!chosen) return;
  const title = el("h2", { id: "detail-title", tabindex: "-1" }, `${clipped(chosen.model, 100)}, ${chosen.precision}`);
  const same = data.cases.filter((c) => c.model === chosen.model && c.precision === chosen.precision && c.backend === chosen.backend).slice(0, 24);
  document.getElementById("detail").replaceChildren(title, ...same.map((c) => el("section", {}, el("h3", {}, [c.kind, c.where].filter(Boolean).join(": ")), history(c))));
  if (focus) { title.scrollIntoView(); title.focus({ preventScroll: true }); }
}
window.addEventListener("hashchange", () => show(true));
show(location.hash.length > 1);
document.documentElement.dataset.ready = "yes";
