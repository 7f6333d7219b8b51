"use strict";
const at = (name) => Object.fromEntries(data.columns[name].map((column, i) => [column, i]));
const LAYER = at("layers");
const OUTPUT = at("outputs");
const LATENCY = at("latency");
const byId = (id) => document.getElementById(id);

/* Filters of the matrix */
const filters = { verdict: "", word: "", precision: "", backend: "" };
const matrixRows = [...document.querySelectorAll("#matrix tbody tr")];
const matrixColumns = [...document.querySelectorAll("#matrix thead th")].slice(1);
function applyFilters() {
  const wanted = (part) => (!filters.precision || part.dataset.precision === filters.precision) && (!filters.backend || part.dataset.backend === filters.backend);
  matrixColumns.forEach((head) => { head.hidden = !wanted(head); });
  let shown = 0;
  for (const row of matrixRows) {
    let any = false;
    for (const cell of row.cells) {
      if (cell.tagName === "TH") continue;
      cell.hidden = !wanted(cell);
      const match = !cell.hidden && cell.dataset.verdict && (!filters.verdict || cell.dataset.verdict === filters.verdict);
      cell.classList.toggle("dim", Boolean(filters.verdict) && !match);
      any ||= Boolean(match);
    }
    const named = data.models[row.dataset.model].name.toLowerCase().includes(filters.word);
    row.hidden = !(any && named);
    shown += row.hidden ? 0 : 1;
  }
  const buttons = document.querySelectorAll("[data-verdict][aria-pressed]");
  buttons.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.verdict === filters.verdict)));
  byId("shown").textContent = `${shown} of ${count(matrixRows.length, "model")}`;
}
document.querySelectorAll("button[data-verdict]").forEach((button) => button.addEventListener("click", () => {
  filters.verdict = filters.verdict === button.dataset.verdict ? "" : button.dataset.verdict;
  applyFilters();
}));
byId("find").addEventListener("input", (event) => { filters.word = event.target.value.toLowerCase(); applyFilters(); });
byId("by-precision").addEventListener("change", (event) => { filters.precision = event.target.value; applyFilters(); });
byId("by-backend").addEventListener("change", (event) => { filters.backend = event.target.value; applyFilters(); });
byId("clear").addEventListener("click", () => {
  Object.assign(filters, { verdict: "", word: "", precision: "", backend: "" });
  for (const id of ["find", "by-precision", "by-backend"]) byId(id).value = "";
  applyFilters();
});

/* One model */
function caseName(model, index) {
  const found = model.cases[index];
  const alone = new Set(model.cases.map((c) => c.backend)).size === 1;
  return [found.precision, alone ? "" : `on ${found.backend}`, found.run ? `(${clipped(found.run, 24)})` : ""].filter(Boolean).join(" ");
}
/* Plotly reads a little HTML in names: text that is not ours goes there escaped. */
const label = (model, index) => escaped(clipped(caseName(model, index), 48));
const column = (title, i, extra = {}) => ({ title, get: (row) => row[i], ...extra });
const figure = (title, i, show = sci) => column(title, i, { num: true, show });

function section(title, ...content) {
  const id = `s-${title.toLowerCase().replace(/[^a-z0-9]+/g, "-")}`;
  return el("section", { id, "data-title": title }, el("h3", {}, title), ...content);
}

function cases(model) {
  const kept = (found) => (found.kept.length ? count(found.kept.length, "node") : "");
  return section("Cases", table({
    caption: "Each precision and backend of this model",
    rows: model.cases.map((found, i) => ({ ...found, name: caseName(model, i) })),
    columns: [
      { title: "Case", get: (c) => c.name },
      { title: "Verdict", get: (c) => c.verdict, show: badge },
      { title: "Mean rel. error", get: (c) => c.mre, num: true, show: sci },
      { title: "Limit", get: (c) => c.limit, num: true, show: sci },
      { title: "Task drop", get: (c) => c.drop, num: true, show: sci },
      { title: "Slowest p50", get: (c) => c.p50_s, num: true, show: seconds },
      { title: "Engine", get: (c) => c.engine_bytes, num: true, show: bytes },
      { title: "Build", get: (c) => c.build_s, num: true, show: seconds },
      { title: "Stays FP32", get: (c) => c.kept.length, num: true, show: (_, c) => kept(c) },
      { title: "Notes", get: (c) => [...c.caveats.map((text) => `but ${text}`), ...c.warnings, ...c.skipped, c.advice].filter(Boolean).join("; "), wrap: true },
    ],
  }));
}

function failures(model) {
  if (!model.failures.length) return null;
  const limit = 50;
  const shown = model.failures.slice(0, limit).map((failure) => el("div", { class: "failure" },
    el("p", {}, badge(failure.verdict), ` ${failure.kind}, ${caseName(model, failure.case)}${failure.profile ? `, profile ${failure.profile}` : ""}`),
    failure.message ? el("pre", {}, failure.message) : null,
    failure.reproduce ? command(failure.reproduce) : null));
  const more = model.failures.length - limit;
  return section("What failed", ...shown, more > 0 ? el("p", { class: "muted" }, `${count(more, "more failure")} in results.json.`) : null);
}

function outputs(model) {
  if (!model.outputs.length) return null;
  return section("Outputs", table({
    caption: "Every output at every shape, with its worst place",
    rows: model.outputs,
    sortBy: 4,
    columns: [
      column("Case", OUTPUT.case, { show: (i) => caseName(model, i) }),
      column("Verdict", OUTPUT.verdict, { show: badge }),
      column("Profile", OUTPUT.profile),
      column("Output", OUTPUT.output, { show: (name) => el("span", { class: "name", title: clipped(name, 300) }, clipped(name)) }),
      figure("mre", OUTPUT.mre),
      figure("Limit", OUTPUT.limit),
      figure("Explained up to", OUTPUT.explained),
      figure("SNR dB", OUTPUT.snr_db),
      figure("Local p99", OUTPUT.p99),
      column("Worst at", OUTPUT.worst_at),
      figure("Got", OUTPUT.got),
      figure("Expected", OUTPUT.expected),
      column("Worst row", OUTPUT.row),
      column("Shape", OUTPUT.shape),
      column("Sizes", OUTPUT.sizes, { wrap: true }),
    ],
  }));
}

function layerHover(row, created) {
  return [
    `<b>${escaped(clipped(row[LAYER.node] || row[LAYER.tensor]))}</b> (${escaped(row[LAYER.op_type])})`,
    `tensor ${escaped(clipped(row[LAYER.tensor]))}, ${row[LAYER.shape]} ${row[LAYER.dtype]}`,
    `error ${sci(row[LAYER.error])}, comes in ${sci(row[LAYER.error_in])}, × ${sci(row[LAYER.amplification])}`,
    `local p99 ${sci(row[LAYER.p99])}, max ${sci(row[LAYER.max])}, SNR ${sci(row[LAYER.snr_db])} dB`,
    `largest |x| ${sci(row[LAYER.largest])}`,
    created ? "<b>creates error</b>" : "",
  ].filter(Boolean).join("<br>");
}

const drawable = (error) => { const n = toNumber(error); return typeof n === "number" && Number.isFinite(n) && n > 0; };

function layerTraces(model) {
  const finite = model.layers.flatMap((run) => run.rows.map((row) => row[LAYER.error])).filter(drawable);
  const top = finite.reduce((a, b) => Math.max(a, b), 1e-6) * 4;
  return model.layers.flatMap((run, k) => {
    const name = label(model, run.case);
    const creators = new Set(run.creators);
    const kind = run.rows.length > 4000 && webgl() ? "scattergl" : "scatter";
    const hover = run.rows.map((row, i) => layerHover(row, creators.has(i)));
    const odd = run.rows.map((row, i) => i).filter((i) => !drawable(run.rows[i][LAYER.error]) && toNumber(run.rows[i][LAYER.error]) !== 0 && run.rows[i][LAYER.error] !== null);
    const pick = (indices, y, marker, label) => ({
      type: kind, mode: "markers", name: label, x: indices, y, marker, text: indices.map((i) => hover[i]), hovertemplate: "%{text}<extra></extra>", showlegend: false,
    });
    return [
      { type: kind, mode: "lines+markers", name, x: run.rows.map((_, i) => i), y: run.rows.map((row) => (drawable(row[LAYER.error]) ? row[LAYER.error] : null)), text: hover, hovertemplate: "%{text}<extra></extra>", line: { color: series(k), width: 1.5, dash: dash(k) }, marker: { size: 4 }, connectgaps: true },
      pick(run.creators, run.creators.map((i) => run.rows[i][LAYER.error]), { symbol: "diamond", size: 11, color: series(k), line: { width: 1.5, color: css("--text") } }, `${name}: creates error`),
      pick(odd, odd.map(() => top), { symbol: "x", size: 10, color: css("--bad") }, `${name}: NaN or Inf`),
    ];
  });
}

function layers(model) {
  if (!model.layers.length) return null;
  const limits = [...new Set(model.layers.map((run) => run.limit).filter(Boolean))];
  const title = "Error of each tensor along the graph, on a log scale; diamonds create error, dashed lines are limits";
  const chart = plot(title, () => ({
    traces: layerTraces(model),
    layout: {
      xaxis: { title: { text: "tensor, in graph order" } },
      yaxis: { type: "log", title: { text: "mean relative error" }, exponentformat: "power" },
      shapes: limits.map((y) => ({ type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y, line: { color: css("--bad"), width: 1, dash: "dash" } })),
    },
  }));
  const place = el("div");
  const choose = el("select", { onchange: () => place.replaceChildren(layerTable(model, model.layers[choose.selectedIndex])) },
    ...model.layers.map((run) => el("option", {}, caseName(model, run.case))));
  place.append(layerTable(model, model.layers[0]));
  return section("Layers", chart, el("div", { class: "bar" }, el("label", {}, "Tensors of ", choose)), place);
}

function layerTable(model, run) {
  const creators = new Set(run.creators);
  const observer = run.observer_effect ? `; instrumenting moved the outputs by ${sci(run.observer_effect)}` : "";
  const rows = run.rows.map((row, i) => [...row, i]);
  const place = data.columns.layers.length;
  const notes = (row) => [
    creators.has(row[place]) && "creates error", row[LAYER.over] && "over tolerance", row[LAYER.finite] === 0 && "NaN or Inf",
    row[LAYER.tensor] === run.first_over && "first over",
  ].filter(Boolean).join(", ");
  return table({
    caption: `${caseName(model, run.case)}: ${count(rows.length, "tensor")} through ${run.instrumentation}${observer}`,
    rows,
    columns: [
      figure("#", place, String),
      column("Node", LAYER.node, { show: (name) => el("span", { class: "name", title: clipped(name, 300) }, clipped(name)) }),
      column("Op", LAYER.op_type),
      column("Tensor", LAYER.tensor, { show: (name) => el("span", { class: "name", title: clipped(name, 300) }, clipped(name)) }),
      figure("Error", LAYER.error), figure("Comes in", LAYER.error_in), figure("Created", LAYER.created), figure("Amplified", LAYER.amplification),
      figure("SNR dB", LAYER.snr_db), figure("Local max", LAYER.max), figure("Largest |x|", LAYER.largest), figure("Subnormal", LAYER.subnormal),
      { title: "Notes", get: notes },
      column("Shape", LAYER.shape),
    ],
  });
}

const centres = (edges) => edges.slice(1).map((edge, i) => (edge + edges[i]) / 2);
function histograms(model) {
  if (!model.histograms.length) return null;
  const charts = model.histograms.slice(0, 24).flatMap((one) => {
    const name = `${clipped(one.tensor, 48)}, ${clipped(caseName(model, one.case), 48)}`;
    const bars = (x, y, label, i) => ({ type: "bar", x, y, name: label, marker: { color: series(i), opacity: i ? 0.55 : 0.9 }, hovertemplate: "%{x:.3g}: %{y}<extra>" + label + "</extra>" });
    const values = plot(`Values of ${name}`, () => ({
      traces: [bars(centres(one.values.edges), one.values.expected, "reference", 0), bars(centres(one.values.edges), one.values.actual, "engine", 1)],
      layout: { barmode: "overlay", bargap: 0, xaxis: { title: { text: "value" } }, yaxis: { type: "log", title: { text: "elements" } } },
    }), true);
    const errors = plot(`Local errors of ${name}`, () => ({
      traces: [bars(centres(one.errors.edges), one.errors.counts, "elements", 1)],
      layout: { bargap: 0, showlegend: false, xaxis: { title: { text: "log10 of the local error" } }, yaxis: { title: { text: "elements" } } },
    }), true);
    return [values, errors];
  });
  return section("Worst tensors", el("div", { class: "plots" }, ...charts));
}

function searches(model) {
  const found = model.searches.filter((search) => search.curve && search.curve.length);
  if (!found.length) return null;
  const chart = plot("Error against the number of nodes that stay FP32", () => ({
    traces: found.map((search, k) => ({
      type: "scatter", mode: "lines+markers", name: label(model, search.case), line: { color: series(k), dash: dash(k) },
      x: search.curve.map((point) => point[0]), y: search.curve.map((point) => (drawable(point[1]) ? point[1] : null)),
      hovertemplate: "%{x} nodes: %{y:.2e}<extra></extra>",
    })),
    layout: {
      xaxis: { title: { text: "nodes that stay FP32" }, rangemode: "tozero" }, yaxis: { type: "log", title: { text: "mean relative error" }, exponentformat: "power" },
      shapes: found.filter((search) => search.tolerance).map((search) => ({ type: "line", xref: "paper", x0: 0, x1: 1, y0: search.tolerance, y1: search.tolerance, line: { color: css("--bad"), width: 1, dash: "dash" } })),
    },
  }), true);
  const words = model.searches.map((search) => el("p", {}, `${caseName(model, search.case)}: `, el("code", {}, clipped((search.nodes || []).join(", ") || search.message, 2000))));
  return section("FP32 search", chart, ...words);
}

function tokenLines(loop, number) {
  const sides = [["reference", loop.tokens.expected[number]], ["engine", loop.tokens.got[number]]];
  const flips = loop.tokens.flips.filter((flip) => flip.sequence === number);
  const kind = new Map(flips.filter((flip) => flip.row === 0).map((flip) => [flip.step, flip.tie ? "tie" : "wrong"]));
  const first = Math.min(...kind.keys());
  const from = Number.isFinite(first) ? Math.max(0, first - 9) : 0;
  const shown = ([name, tokens]) => el("div", { class: "mono" }, `${name.padEnd(10)}`, from ? "\u2026 " : "",
    ...(tokens || []).slice(from, from + 32).flatMap((token, i) => {
      const what = kind.get(from + i + 1);
      return [what ? el("mark", { class: what, title: what === "tie" ? "a tie: within what the precision may err" : "another token" }, String(token)) : String(token), " "];
    }));
  return el("div", { class: "scroll" }, ...sides.map(shown));
}

function loops(model) {
  if (!model.loops.length) return null;
  const modes = [["free", "solid"], ["forced", "dot"]];
  const chart = plot("Error against step: free (drawn through), fed with the engine's own state; forced (dotted), with the reference's", () => ({
    traces: model.loops.flatMap((loop, k) => modes.map(([mode, line]) => ({
      type: "scatter", mode: "lines", name: `${label(model, loop.case)}, ${mode}`, line: { color: series(k), dash: line },
      x: loop[mode].map((_, i) => i + 1), y: loop[mode].map((error) => (drawable(error) ? toNumber(error) : null)),
      hovertemplate: "step %{x}: %{y:.2e}<extra>%{fullData.name}</extra>",
    }))),
    layout: {
      xaxis: { title: { text: "step" }, rangemode: "tozero" }, yaxis: { type: "log", title: { text: "mean relative error" }, exponentformat: "power" },
      shapes: [...new Set(model.loops.map((loop) => loop.limit).filter(drawable))].map((limit) => ({ type: "line", xref: "paper", x0: 0, x1: 1, y0: limit, y1: limit, line: { color: css("--bad"), width: 1, dash: "dash" } })),
    },
  }), true);
  const over = (loop, mode) => { const found = loop.first_over[mode]; return found ? `${found.step}, ${clipped(String(found.output), 60)}` : ""; };
  const facts = table({
    caption: "Each case over all steps",
    rows: model.loops,
    columns: [
      { title: "Case", get: (loop) => caseName(model, loop.case) },
      { title: "Steps", get: (loop) => loop.forced.length, num: true, show: String },
      { title: "Last step, free", get: (loop) => loop.free[loop.free.length - 1], num: true, show: sci },
      { title: "Limit", get: (loop) => loop.limit, num: true, show: sci },
      { title: "Growth", get: (loop) => [loop.growth.kind, loop.growth.per_step ? `${sci(loop.growth.per_step)} a step` : ""].filter(Boolean).join(", ") },
      { title: "First forced step over", get: (loop) => over(loop, "forced") },
      { title: "First free step over", get: (loop) => over(loop, "free") },
      { title: "Tokens", get: (loop) => (loop.tokens.compared ? `${loop.tokens.compared}, ${count(loop.tokens.ties, "tie")}, ${loop.tokens.wrong} wrong` : "") },
    ],
  });
  const tokens = model.loops.flatMap((loop) => {
    const numbers = [...new Set(loop.tokens.flips.map((flip) => flip.sequence))].filter((n) => loop.tokens.expected[n]).slice(0, 4);
    return numbers.map((number) => el("details", {}, el("summary", {}, `${caseName(model, loop.case)}, sequence ${number}: tokens around the first that differs`), tokenLines(loop, number)));
  });
  return section("Loop", chart, facts, ...tokens);
}

function latency(model) {
  if (!model.latency.length) return null;
  const groups = new Map();
  for (const row of model.latency) {
    const profile = row[LATENCY.profile] ? `, ${escaped(clipped(row[LATENCY.profile], 24))}` : "";
    const key = `${label(model, row[LATENCY.case])}${profile}`;
    groups.set(key, [...(groups.get(key) || []), row]);
  }
  for (const rows of groups.values()) rows.sort((a, b) => a[LATENCY.batch] - b[LATENCY.batch]);
  const chart = plot("Latency of one call against batch size: the line is p50, bars reach up to p99", () => ({
    traces: [...groups].flatMap(([name, rows], k) => {
      const x = rows.map((row) => row[LATENCY.batch]);
      const ms = (i) => rows.map((row) => (row[i] === null ? null : row[i] * 1e3));
      const p50 = ms(LATENCY.p50_s);
      const up = ms(LATENCY.p99_s).map((p99, i) => (p99 === null ? 0 : p99 - p50[i]));
      const text = rows.map((row) => `p50 ${seconds(row[LATENCY.p50_s])}, p90 ${seconds(row[LATENCY.p90_s])}, p99 ${seconds(row[LATENCY.p99_s])}<br>${sci(row[LATENCY.throughput_per_s])} samples/s`);
      const line = { type: "scatter", mode: "lines+markers", name, x, y: p50, text, hovertemplate: "batch %{x}: %{text}<extra></extra>", line: { color: series(k), dash: dash(k) }, error_y: { type: "data", symmetric: false, array: up, arrayminus: up.map(() => 0), thickness: 1, width: 4 } };
      const device = ms(LATENCY.device_p50_s);
      return device.some((value) => value !== null) ? [line, { type: "scatter", mode: "lines", name: `${name}, device`, x, y: device, line: { color: series(k), dash: "dot" } }] : [line];
    }),
    layout: { xaxis: { title: { text: "batch size" }, type: "log", tickvals: [...new Set(model.latency.map((row) => row[LATENCY.batch]))] }, yaxis: { title: { text: "milliseconds" }, type: "log" } },
  }));
  return section("Latency", chart, table({
    caption: "Host time from arrays to arrays; device time and time without copies where there is a device",
    rows: model.latency,
    columns: [
      column("Case", LATENCY.case, { show: (i) => caseName(model, i) }), column("Verdict", LATENCY.verdict, { show: badge }),
      column("Profile", LATENCY.profile), figure("Batch", LATENCY.batch, String),
      figure("p50", LATENCY.p50_s, seconds), figure("p90", LATENCY.p90_s, seconds), figure("p99", LATENCY.p99_s, seconds), figure("MAD", LATENCY.mad_s, seconds),
      figure("Samples/s", LATENCY.throughput_per_s), figure("Device p50", LATENCY.device_p50_s, seconds), figure("No copies p50", LATENCY.resident_p50_s, seconds),
      figure("Peak memory", LATENCY.memory, bytes),
      figure("Calls", LATENCY.samples, String), { title: "Doubts", get: (row) => row[LATENCY.doubts].join("; "), wrap: true },
    ],
  }));
}

function engines(model) {
  const found = model.cases.map((c, i) => [caseName(model, i), c]).filter(([, c]) => Object.keys(c.nodes).length);
  if (!found.length) return null;
  const words = [...new Set(found.flatMap(([, c]) => Object.keys(c.nodes)))].sort();
  const bar = (i) => label(model, model.cases.indexOf(found[i][1]));
  const chart = plot("Nodes or layers of each engine by the precision that they really run in", () => ({
    traces: words.map((word, k) => ({ type: "bar", orientation: "h", name: escaped(clipped(word, 48)), y: found.map((_, i) => bar(i)), x: found.map(([, c]) => c.nodes[word] || 0), marker: { color: series(k) }, hovertemplate: "%{y}: %{x}<extra>%{fullData.name}</extra>" })),
    layout: { barmode: "stack", xaxis: { title: { text: "nodes" } }, yaxis: { autorange: "reversed" } },
  }), true);
  const facts = found.map(([name, c]) => el("details", {}, el("summary", {}, `${name}: what it was built from`),
    el("dl", { class: "facts" }, ...Object.entries({ device: c.device, provider: c.provider, ...c.versions, ...c.hashes }).filter(([, v]) => v).flatMap(([k, v]) => [el("dt", {}, k), el("dd", { class: "mono" }, String(v))])),
    c.kept.length ? table({ caption: `${name}: nodes that stay FP32`, rows: c.kept, columns: [column("Node", 0), column("Why", 1, { wrap: true })] }) : null));
  return section("Engines", chart, ...facts);
}

function show(index, focus) {
  const model = data.models[index];
  const place = byId("detail");
  matrixRows.forEach((row) => row.classList.toggle("chosen", Number(row.dataset.model) === index));
  if (!model) { place.replaceChildren(); return; }
  const parts = [failures, cases, outputs, layers, histograms, loops, searches, latency, engines].map((part) => part(model)).filter(Boolean);
  const title = el("h2", { id: "detail-title", tabindex: "-1" }, clipped(model.name, 200), " ", badge(model.verdict));
  const step = (by, word) => el("button", { type: "button", disabled: data.models[index + by] === undefined, onclick: () => { location.hash = `m${index + by}`; } }, word);
  const go = (part) => el("button", { type: "button", onclick: () => { part.scrollIntoView(); part.querySelector("h3").setAttribute("tabindex", "-1"); part.querySelector("h3").focus({ preventScroll: true }); } }, part.dataset.title);
  place.replaceChildren(title, el("div", { class: "bar" }, el("a", { href: "#verdicts" }, "Back to the verdicts"), step(-1, "Previous model"), step(1, "Next model")),
    el("nav", { class: "toc", "aria-label": "Parts of this model" }, ...parts.map(go)), ...parts);
  if (focus) { title.scrollIntoView(); title.focus({ preventScroll: true }); }
}
function route(focus) {
  const found = /^#m(\d+)$/.exec(location.hash);
  if (found) show(Number(found[1]), focus);
}
window.addEventListener("hashchange", () => route(true));
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && byId("detail").contains(document.activeElement)) {
    const link = document.querySelector("tr.chosen a");
    if (link) link.focus();
  }
});

applyFilters();
if (/^#m\d+$/.test(location.hash)) route(true);
else if (data.models.length) show(worstModel(), false);
function worstModel() {
  const found = data.models.findIndex((model) => model.failures.length);
  return found < 0 ? 0 : found;
}
document.documentElement.dataset.ready = "yes";
