"use strict";
/* Text reaches the page through textContent alone; nothing here parses HTML. */
const data = JSON.parse(document.getElementById("data").textContent);

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const toNumber = (value) => (value === "inf" ? Infinity : value === "-inf" ? -Infinity : value === "nan" ? NaN : value);
function sci(value) {
  const n = toNumber(value);
  if (n === null || n === undefined || n === "") return "";
  if (typeof n !== "number") return String(n);
  if (Number.isNaN(n)) return "NaN";
  if (!Number.isFinite(n)) return n > 0 ? "Inf" : "-Inf";
  if (n === 0) return "0";
  const size = Math.abs(n);
  return size >= 1e-3 && size < 1e5 ? String(Number(n.toPrecision(4))) : n.toExponential(1);
}
function seconds(value) {
  if (value === null || value === undefined) return "";
  for (const [unit, size] of [["s", 1], ["ms", 1e-3], ["µs", 1e-6]]) {
    if (value >= size) return `${(value / size).toPrecision(3)} ${unit}`;
  }
  return `${(value * 1e9).toPrecision(3)} ns`;
}
function bytes(value) {
  if (value === null || value === undefined) return "";
  for (const [unit, size] of [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]]) {
    if (value >= size) return `${(value / size).toPrecision(3)} ${unit}`;
  }
  return `${value} B`;
}
const count = (n, one, many = one + "s") => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

/* A table of any length: a page of rows at a time, sorted by a heading, narrowed by a word.
   columns: {title, get(row), show(value, row) -> text or node, num, wrap} */
function table({ columns, rows, caption, size = 50, sortBy = null, descending = true, filter = true }) {
  const state = { page: 0, sort: sortBy, descending, word: "" };
  const heads = columns.map((column, i) =>
    el("th", { scope: "col", class: column.num ? "num" : null },
      el("button", { type: "button", onclick: () => sort(i) }, column.title)));
  const body = el("tbody");
  const said = el("span", { class: "muted", role: "status" });
  const back = el("button", { type: "button", onclick: () => turn(-1) }, "Previous");
  const on = el("button", { type: "button", onclick: () => turn(1) }, "Next");
  const find = el("input", { type: "search", placeholder: "filter rows", "aria-label": `Filter: ${caption}`,
    oninput: (event) => { state.word = event.target.value.toLowerCase(); state.page = 0; draw(); } });
  let shown = rows;
  function sort(i) {
    state.descending = state.sort === i ? !state.descending : Boolean(columns[i].num);
    state.sort = i;
    state.page = 0;
    draw();
  }
  function turn(by) { state.page += by; draw(); }
  function key(value) {
    const n = toNumber(value);
    if (n === null || n === undefined || n === "") return -Infinity;
    return typeof n === "number" && Number.isNaN(n) ? Infinity : n;
  }
  function arrange() {
    shown = state.word ? rows.filter((row) => columns.some((c) => String(c.get(row) ?? "").toLowerCase().includes(state.word))) : rows;
    if (state.sort === null) return;
    const { get, num } = columns[state.sort];
    const sign = state.descending ? -1 : 1;
    const compare = num ? (a, b) => { const x = key(a), y = key(b); return x < y ? -1 : x > y ? 1 : 0; } : (a, b) => String(a ?? "").localeCompare(String(b ?? ""));
    shown = [...shown].sort((a, b) => sign * compare(get(a), get(b)));
  }
  function cell(column, row) {
    const value = column.get(row);
    const content = column.show ? column.show(value, row) : (value ?? "");
    return el("td", { class: [column.num && "num", column.wrap && "wrap"].filter(Boolean).join(" ") || null }, content);
  }
  function draw() {
    arrange();
    const pages = Math.max(1, Math.ceil(shown.length / size));
    state.page = Math.min(Math.max(0, state.page), pages - 1);
    const first = state.page * size;
    body.replaceChildren(...shown.slice(first, first + size).map((row) => el("tr", {}, ...columns.map((c) => cell(c, row)))));
    heads.forEach((head, i) => head.setAttribute("aria-sort", state.sort === i ? (state.descending ? "descending" : "ascending") : "none"));
    back.disabled = state.page === 0;
    on.disabled = state.page >= pages - 1;
    const range = shown.length ? `${first + 1} to ${Math.min(first + size, shown.length)} of ` : "";
    said.textContent = range + count(shown.length, "row");
  }
  draw();
  const long = rows.length > size;
  const controls = long || (filter && rows.length > 8) ? el("div", { class: "bar" }, find, long ? back : null, long ? on : null, said) : null;
  const grid = el("table", {}, el("caption", {}, caption), el("thead", {}, el("tr", {}, ...heads)), body);
  return el("div", {}, controls, el("div", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": caption }, grid));
}

let plotlyReady = null;
function plotly() {
  plotlyReady ??= (async () => {
    const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent.trim()), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    return window.Plotly;
  })();
  return plotlyReady;
}

let gl = null;
function webgl() {
  gl ??= Boolean(document.createElement("canvas").getContext("webgl"));
  return gl;
}

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const series = (i) => css(`--series-${(i % 6) + 1}`);
const dashes = ["solid", "dash", "dot", "dashdot"];
const dash = (i) => dashes[Math.floor(i / 6) % dashes.length];

/* A plot that is drawn when it comes into view.  make() -> {traces, layout}, made anew for each theme. */
const waiting = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    waiting.unobserve(entry.target);
    entry.target.draw();
  }
}, { rootMargin: "300px" });
const drawn = new Set();
function plot(caption, make, low = false) {
  const box = el("div", { class: low ? "plot low" : "plot", role: "img", "aria-label": caption });
  box.draw = async () => {
    const library = await plotly();
    if (!box.isConnected) return;
    const { traces, layout } = make();
    const axis = { gridcolor: css("--line"), zerolinecolor: css("--line"), linecolor: css("--line"), automargin: true };
    const base = {
      paper_bgcolor: css("--bg"), plot_bgcolor: css("--bg"), font: { color: css("--text"), size: 12, family: "system-ui, sans-serif" },
      margin: { l: 64, r: low ? 16 : 48, t: 48, b: 60 }, hovermode: "closest", showlegend: true,
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, modebar: { orientation: "v", bgcolor: "rgba(0,0,0,0)", color: css("--muted") },
      hoverlabel: { bgcolor: css("--panel"), bordercolor: css("--line"), font: { color: css("--text") }, align: "left" },
    };
    const merged = { ...base, ...layout, xaxis: { ...axis, ...layout.xaxis }, yaxis: { ...axis, ...layout.yaxis } };
    await library.react(box, traces, merged, { responsive: true, displaylogo: false, displayModeBar: low ? false : "hover", modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] });
    box.dataset.drawn = "yes";
    drawn.add(box);
  };
  waiting.observe(box);
  return el("figure", {}, box, el("figcaption", {}, caption));
}

function repaint() {
  for (const box of drawn) {
    if (box.isConnected) box.draw();
    else drawn.delete(box);
  }
}
const theme = document.getElementById("theme");
theme.addEventListener("change", () => {
  if (theme.value === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme.value;
  repaint();
});
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);

function copyButton(text) {
  const button = el("button", { type: "button", onclick: async () => {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  } }, "Copy");
  return button;
}
const command = (text) => el("div", { class: "command" }, el("pre", {}, text), navigator.clipboard ? copyButton(text) : null);
const badge = (verdict) => el("span", { class: `badge ${verdict.replace(" ", "-")}` }, `${data.glyphs?.[verdict] ?? ""} ${verdict}`.trim());
const escaped = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const clipped = (text, limit = 80) => (String(text).length > limit ? `${String(text).slice(0, limit / 2)}…${String(text).slice(-limit / 2)}` : String(text));
