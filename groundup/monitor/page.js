"use strict";
// Draws the page from the JSON that lies in it. All text from the run is set as text, never as markup.

const run = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 200, LEFT = 56, RIGHT = 10, TOP = 16, BOTTOM = 22;
const SINGLE = {
  loss: ["Loss", ""],
  validation_bits_per_byte: ["Validation", "bits per byte"],
  validation_loss: ["Validation loss", "nats per token"],
  exact_match: ["Exact match", "share of validation problems"],
  accuracy: ["Accuracy", "share of pairs"],
  margin: ["Margin", "between the answers of a pair"],
  reward: ["Reward", "mean of the answers"],
  learning_rate: ["Learning rate", ""],
  gradient_norm: ["Gradient norm", "before clipping"],
  tokens_per_second: ["Speed", "tokens per second"],
  mfu: ["MFU", "share of the device's peak"],
  memory_bytes: ["Memory", "bytes"],
  joules_per_token: ["Energy", "joules per token"],
};
const LOSS_UNITS = { pretrain: "nats per token", sft: "nats per token", dpo: "nats per pair" };
const TOGETHER = [
  ["gradient_norm/", "Gradient norm", "by group, before clipping"],
  ["update_ratio/", "Update to weights", "by group, ratio of rms"],
  ["activation_rms/", "Activations", "rms of each block's output"],
  ["epochs/", "Epochs", "passes over each source"],
];
const STEP_PARTS = ["step_seconds", "loader_seconds"];
const STEADY = new Set(["learning_rate", "memory_bytes", "validation_bits_per_byte", "validation_loss", "epochs/"]); // never smoothed
const NOT_DRAWN = new Set(["tokens", "seconds", "step", "skipped", ...STEP_PARTS]);
const FLAGS = {
  skipped: ["×", "--grey"], spike: ["!", "--bad"], rewound: ["↶", "--bad"], split: ["½", "--warn"],
  resumed: ["▸", "--accent"], stopped_early: ["■", "--warn"], terminated: ["■", "--warn"],
  sink_lost: ["–", "--grey"],
};

// What the reader has chosen survives the page's loading itself again.
const KEPT = "groundup " + run.folder;
const chosen = Object.assign({ zoom: {}, smooth: 0, logarithmic: {}, sample: {}, open: {}, y: 0 }, recall());
function recall() {
  try { return JSON.parse(sessionStorage.getItem(KEPT)) || {}; } catch { return {}; }
}
function remember() {
  chosen.y = scrollY;
  try { sessionStorage.setItem(KEPT, JSON.stringify(chosen)); } catch { /* private windows may refuse */ }
}

function element(name, attributes = {}, ...children) {
  const made = name.startsWith("svg:") ? document.createElementNS(SVG, name.slice(4)) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function short(value, digits = 4) {
  if (value === undefined || value === null || !isFinite(value)) return "";
  const size = Math.abs(value);
  for (const [limit, unit] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (size >= limit) return trimmed((value / (unit === "k" ? 1e3 : limit)).toPrecision(Math.max(3, digits - 1))) + unit;
  }
  if (size && size < 1e-3) return value.toExponential(Math.max(1, digits - 3));
  return trimmed(value.toPrecision(digits));
}
const trimmed = (text) => text.includes(".") && !text.includes("e") ? text.replace(/\.?0+$/, "") : text;
const words = (name) => name.replaceAll("_", " ");
const whole = (value) => Math.round(value).toLocaleString("en");
function duration(seconds) {
  const all = Math.round(seconds), hours = Math.floor(all / 3600), minutes = Math.floor(all / 60) % 60;
  const rest = String(all % 60).padStart(2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

// The running mean of the terminal's curves: weights fall by `decay` from a value to the one before it.
function smoothed(values, decay) {
  let total = 0, weight = 0;
  return values.map((value) => {
    total = decay * total + value;
    weight = decay * weight + 1;
    return total / weight;
  });
}

function ticks(low, high, wanted) {
  const rough = (high - low) / wanted || Math.abs(low) || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
  const found = [];
  for (let tick = Math.ceil(low / step - 1e-9) * step; tick <= high + step * 1e-9; tick += step) found.push(Math.abs(tick) < step * 1e-9 ? 0 : tick);
  return found;
}
function decades(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const factor of high / low > 300 ? [1] : [1, 2, 5]) found.push(factor * 10 ** power);
  }
  return found.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
}

/** The pictures that a stage has numbers for: {name, title, unit, curves: [{label, colour, steps, values, …}]}. */
function pictures(stage) {
  const found = [], left = new Set(Object.keys(stage.curves));
  const add = (name, title, unit, keys, label) => {
    const curves = keys.map((key, number) => ({ ...stage.curves[key], label: label(key), colour: colour(number, keys.length, name) }));
    found.push({ name, title, unit, curves });
    keys.forEach((key) => left.delete(key));
  };
  for (const [key, [title, unit]] of Object.entries(SINGLE)) {
    if (left.has(key)) add(key, title, key === "loss" ? LOSS_UNITS[stage.name] || "" : unit, [key], () => "");
  }
  for (const [prefix, title, unit] of TOGETHER) {
    const keys = [...left].filter((key) => key.startsWith(prefix));
    if (prefix === "activation_rms/") keys.sort((a, b) => a.slice(prefix.length) - b.slice(prefix.length));
    if (keys.length) add(prefix, title, unit, keys, (key) => words(key.slice(prefix.length)));
  }
  const parts = STEP_PARTS.filter((key) => left.has(key));
  if (parts.length) add("step_seconds", "Time of a step", "seconds", parts, (key) => ({ step_seconds: "whole", loader_seconds: "waiting for data" })[key]);
  for (const key of left) if (!NOT_DRAWN.has(key)) add(key, words(key)[0].toUpperCase() + words(key).slice(1), "", [key], () => "");
  return found;
}
function colour(number, count, name) {
  if (name === "activation_rms/" && count > 1) { // depth is an order, so its colours are a scale
    return `color-mix(in oklab, var(--c0), var(--c1) ${Math.round((100 * number) / (count - 1))}%)`;
  }
  return `var(--c${number % 8})`;
}

class Chart {
  constructor(stage, picture, view) {
    Object.assign(this, { stage, picture, view });
    this.key = `${stage.name}/${picture.name}`;
    this.readout = element("output", {});
    this.svg = element("svg:svg", { role: "img", tabindex: 0, "aria-label": this.spoken() });
    this.legend = picture.curves.length > 1 ? element("div", { class: "legend" }) : null;
    const scale = element("button", { type: "button", title: "linear or logarithmic", onclick: () => this.toggle() }, "log");
    scale.style.padding = "0 6px";
    this.scale = scale;
    this.figure = element("figure", {},
      element("figcaption", {}, element("h3", {}, picture.title, " ", element("span", { class: "unit" }, picture.unit)), this.readout, scale),
      this.legend, this.svg);
    this.svg.addEventListener("pointermove", (event) => this.move(event));
    this.svg.addEventListener("pointerleave", () => this.drag === undefined && view.hover(null));
    this.svg.addEventListener("pointerdown", (event) => this.press(event));
    this.svg.addEventListener("pointerup", (event) => this.release(event));
    this.svg.addEventListener("pointercancel", () => { this.drag = undefined; view.draw(); });
    this.svg.addEventListener("dblclick", () => view.zoom(null));
    this.svg.addEventListener("keydown", (event) => this.type(event));
  }

  spoken() {
    const { title, unit, curves } = this.picture;
    return curves.map((curve) => `${title} ${unit} ${curve.label}: from ${short(curve.values[0])} at step ${curve.steps[0]} to ${short(curve.values.at(-1))} at step ${curve.steps.at(-1)}`).join("; ");
  }

  toggle() {
    chosen.logarithmic[this.key] = !this.logarithmic;
    remember();
    this.draw();
  }

  get positive() { return this.picture.curves.every((curve) => curve.values.every((value) => value > 0)); }
  get logarithmic() {
    if (!this.positive) return false;
    if (this.key in chosen.logarithmic) return chosen.logarithmic[this.key];
    const all = this.picture.curves.flatMap((curve) => curve.values);
    return Math.max(...all) / Math.min(...all) > 100;
  }

  draw() {
    const width = this.svg.clientWidth || 390, [from, to] = this.view.range;
    this.x = (step) => LEFT + ((step - from) / (to - from)) * (width - LEFT - RIGHT);
    this.step = (x) => from + ((x - LEFT) / (width - LEFT - RIGHT)) * (to - from);
    const logarithmic = this.logarithmic, transform = logarithmic ? Math.log : (value) => value;
    this.scale.hidden = !this.positive;
    this.scale.setAttribute("aria-pressed", logarithmic);
    const curves = this.shown = this.picture.curves.map((curve) => this.cut(curve, from, to));
    const all = curves.flatMap((curve) => curve.drawn.concat(chosen.smooth && curve.noisy ? curve.raw : []));
    let low = Math.min(...all), high = Math.max(...all);
    if (!(high > low)) { const room = Math.abs(low) * 0.1 || 1; low -= logarithmic ? low * 0.1 : room; high += room; }
    const room = (transform(high) - transform(low)) * 0.05, bottom = transform(low) - room, top = transform(high) + room;
    const y = (value) => TOP + ((top - Math.min(top, Math.max(bottom, transform(value)))) / (top - bottom)) * (HEIGHT - TOP - BOTTOM);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const parts = [];
    const levels = logarithmic ? decades(low, high) : ticks(low, high, 4), labels = levels.map((tick) => short(tick));
    const alike = new Set(labels).size < labels.length;
    levels.forEach((tick, number) => {
      parts.push(element("svg:line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(tick), y2: y(tick) }));
      const label = alike ? short(tick, 6) : labels[number];
      parts.push(element("svg:text", { x: LEFT - 6, y: y(tick) + 4, "text-anchor": "end" }, label));
    });
    const floor = HEIGHT - BOTTOM;
    parts.push(element("svg:line", { class: "axis", x1: LEFT, x2: width - RIGHT, y1: floor, y2: floor }));
    for (const tick of ticks(from, to, width / 90)) {
      parts.push(element("svg:text", { x: this.x(tick), y: HEIGHT - 6, "text-anchor": "middle" }, short(tick)));
    }
    for (const curve of curves) {
      const points = (values) => curve.steps.map((step, number) => `${this.x(step).toFixed(1)},${y(values[number]).toFixed(1)}`);
      if (curve.lows) parts.push(element("svg:polygon", { class: "band", fill: curve.colour, points: points(curve.lows).concat(points(curve.highs).reverse()).join(" ") }));
      if (curve.noisy && chosen.smooth) parts.push(element("svg:polyline", { class: "raw", stroke: curve.colour, points: points(curve.raw).join(" ") }));
      parts.push(element("svg:polyline", { class: "curve", stroke: curve.colour, points: points(curve.drawn).join(" ") }));
      if (curve.steps.length <= 24) for (const [number, step] of curve.steps.entries()) parts.push(element("svg:circle", { cx: this.x(step), cy: y(curve.drawn[number]), r: 2.4, fill: curve.colour }));
    }
    parts.push(...this.flags(from, to, floor));
    this.cross = element("svg:g", {});
    this.y = y;
    this.svg.replaceChildren(...parts, this.cross);
    this.point(this.view.at);
  }

  cut(curve, from, to) {
    const inside = curve.steps.map((step, number) => number).filter((number) => curve.steps[number] >= from && curve.steps[number] <= to);
    const pick = (values) => values && inside.map((number) => values[number]);
    const noisy = curve.values.length > 24 && !STEADY.has(this.picture.name);
    const drawn = noisy && chosen.smooth ? smoothed(curve.values, chosen.smooth) : curve.values;
    return { ...curve, noisy, steps: pick(curve.steps), raw: pick(curve.values), drawn: pick(drawn), lows: pick(curve.lows), highs: pick(curve.highs) };
  }

  /** Lines where something happened, each with a sign where there is room: for what is rare before what is frequent. */
  flags(from, to, floor) {
    const parts = [], taken = [];
    const marks = this.view.marks.filter((mark) => mark.step >= from && mark.step <= to);
    marks.sort((a, b) => (a.event === "skipped") - (b.event === "skipped"));
    for (const mark of marks) {
      const [sign, tone] = FLAGS[mark.event] || ["•", "--grey"], x = this.x(mark.step);
      const group = element("svg:g", {}, element("svg:title", {}, `step ${mark.step}: ${words(mark.event)}${mark.why ? ": " + mark.why : ""}`));
      group.append(element("svg:line", { class: "event", stroke: `var(${tone})`, x1: x, x2: x, y1: TOP, y2: floor, opacity: mark.event === "skipped" ? 0.35 : 0.8 }));
      if (taken.every((other) => Math.abs(other - x) > 9)) {
        const flag = element("svg:text", { class: "flag", x, y: TOP - 4, "text-anchor": "middle" }, sign);
        flag.style.fill = `var(${tone})`;
        group.append(flag);
        taken.push(x);
      }
      parts.push(group);
    }
    return parts;
  }

  /** Show the values next to `step` in the caption and as dots; null: the newest. */
  point(step) {
    this.cross.replaceChildren();
    const single = this.picture.curves.length === 1, told = [];
    for (const curve of this.shown) {
      const place = step === null ? curve.steps.length - 1 : nearest(curve.steps, step);
      const value = curve.drawn[place];
      told.push(value === undefined ? "" : short(value));
      if (step !== null && value !== undefined) {
        this.cross.append(element("svg:circle", { cx: this.x(curve.steps[place]), cy: this.y(value), r: 3.2, fill: curve.colour }));
      }
    }
    if (step !== null) {
      const x = this.x(step);
      this.cross.prepend(element("svg:line", { class: "cross", x1: x, x2: x, y1: TOP, y2: HEIGHT - BOTTOM }));
    }
    const at = step === null ? "" : `step ${whole(step)}`;
    this.readout.textContent = single ? [at, told[0]].filter(Boolean).join(" · ") : at;
    if (this.legend) {
      this.legend.replaceChildren(...this.shown.map((curve, number) => {
        const swatch = element("i", {});
        swatch.style.background = curve.colour;
        return element("span", {}, swatch, `${curve.label} `, element("b", {}, told[number]));
      }));
    }
  }

  at(event) {
    const box = this.svg.getBoundingClientRect(), [from, to] = this.view.range;
    return Math.min(to, Math.max(from, this.step(event.clientX - box.left)));
  }
  press(event) {
    if (event.button !== 0 || event.pointerType === "touch") return;
    this.drag = this.at(event);
    this.svg.setPointerCapture(event.pointerId);
  }
  move(event) {
    const here = this.at(event);
    this.view.hover(here);
    if (this.drag === undefined) return;
    const [left, right] = [this.x(this.drag), this.x(here)].sort((a, b) => a - b);
    this.cross.prepend(element("svg:rect", { class: "select", x: left, width: right - left, y: TOP, height: HEIGHT - TOP - BOTTOM }));
  }
  release(event) {
    if (this.drag === undefined) return;
    const ends = [this.drag, this.at(event)].sort((a, b) => a - b);
    this.drag = undefined;
    if (this.x(ends[1]) - this.x(ends[0]) > 6) this.view.zoom(ends);
  }
  type(event) {
    const [from, to] = this.view.range, by = (to - from) / 50;
    const here = this.view.at === null ? to : this.view.at;
    if (event.key === "ArrowLeft") this.view.hover(Math.max(from, here - by));
    else if (event.key === "ArrowRight") this.view.hover(Math.min(to, here + by));
    else if (event.key === "Escape") { this.view.hover(null); this.view.zoom(null); } else return;
    event.preventDefault();
  }
}

function nearest(steps, step) {
  let low = 0, high = steps.length - 1;
  while (high - low > 1) { const middle = (low + high) >> 1; if (steps[middle] < step) low = middle; else high = middle; }
  return high >= 0 && Math.abs(steps[high] - step) < Math.abs(steps[low] - step) ? high : low;
}

/** The charts of a stage, which share their steps. */
class View {
  constructor(stage) {
    this.stage = stage;
    this.at = null;
    const logged = stage.events.filter((event) => event.event !== "started");
    const told = new Set(logged.filter((event) => event.event === "skipped").map((event) => event.step));
    this.marks = [...logged, ...stage.skipped.filter((step) => !told.has(step)).map((step) => ({ step, event: "skipped", why: "" }))];
    this.marks.sort((a, b) => a.step - b.step);
    this.charts = pictures(stage).map((picture) => new Chart(stage, picture, this));
    this.reset = element("button", { type: "button", onclick: () => this.zoom(null) }, "whole run");
  }
  get range() { return chosen.zoom[this.stage.name] || [0, Math.max(this.stage.step, 1)]; }
  zoom(range) {
    if (range) chosen.zoom[this.stage.name] = range; else delete chosen.zoom[this.stage.name];
    remember();
    this.draw();
  }
  hover(step) {
    this.at = step;
    this.charts.forEach((chart) => chart.point(step));
  }
  draw() {
    this.reset.hidden = !chosen.zoom[this.stage.name];
    this.charts.forEach((chart) => chart.draw());
  }
}

const views = [];

function header() {
  const state = run.running ? "running" : run.stages.every((stage) => stage.state === "done") ? "done"
    : run.stages.some((stage) => stage.state === "interrupted") ? "interrupted" : "not yet";
  const title = { running: "running", done: "finished", interrupted: "interrupted", "not yet": "not finished" }[state];
  const written = new Date(run.written * 1000).toLocaleString();
  return element("div", {},
    element("header", {}, element("h1", {}, run.name), element("span", { class: "grey" }, run.description),
      element("span", { class: "state" }, element("span", { class: `badge ${state.replace(" ", "-")}` }, title), " ",
        element("span", { class: "grey number" }, `as of ${written}`))),
    element("p", { class: "notice", id: "stale", hidden: "" }),
    element("ol", { class: "stages" }, ...run.stages.map(tile)));
}

function tile(stage) {
  const drawn = Object.keys(stage.curves).length > 0;
  const made = element("li", { class: stage.state.replace(" ", "-") },
    element("b", {}, drawn ? element("a", { href: `#${stage.name}` }, stage.name) : stage.name),
    element("span", { class: "word" }, stage.state === "done" ? `✓ ${duration(stage.seconds)}` : stage.state));
  if (stage.memory) made.append(element("span", {}, `${whole(stage.memory / 1e6)} MB`));
  if (stage.state !== "done" && stage.step) {
    const bar = element("i", {});
    bar.style.width = `${stage.planned ? Math.min(100, (100 * stage.step) / stage.planned) : 100}%`;
    made.append(element("span", {}, `step ${whole(stage.step)}${stage.planned ? " of " + whole(stage.planned) : ""}`), element("div", { class: "bar" }, bar));
    if (stage.remaining) made.append(element("span", {}, `${duration(stage.remaining)} to go`));
  }
  return made;
}

function findings() {
  if (!run.findings.length) return null;
  return element("section", { id: "findings" }, element("div", { class: "head" }, element("h2", {}, "Findings"), element("span", { class: "grey" }, "of groundup doctor")),
    ...run.findings.map((finding) => element("div", { class: `finding ${["failure", "warning", "ok"].includes(finding.severity) ? finding.severity : ""}` },
      element("p", {}, element("span", { class: "kind" }, String(finding.severity ?? "")), element("b", {}, String(finding.what ?? finding.name ?? "")),
        finding.where ? element("span", { class: "grey" }, ` (${finding.where})`) : null),
      finding.evidence ? element("p", {}, String(finding.evidence)) : null,
      finding.remedy ? element("p", { class: "grey" }, `→ ${finding.remedy}`) : null)));
}

function stageSection(stage) {
  const view = new View(stage), about = [];
  views.push(view);
  about.push(`step ${whole(stage.step)}${stage.planned ? " of " + whole(stage.planned) : ""}`);
  if (stage.last.tokens) about.push(`${short(stage.last.tokens)} tokens`);
  if (stage.last.seconds) about.push(duration(stage.last.seconds));
  if (stage.parameters) about.push(`${short(stage.parameters)} parameters`);
  if (stage.cost) about.push(`cost ${stage.cost.toFixed(2)}`);
  const range = element("input", { type: "range", min: 0, max: 0.98, step: 0.02, value: chosen.smooth, "aria-label": "smoothing" });
  range.addEventListener("input", () => {
    chosen.smooth = Number(range.value);
    document.querySelectorAll("input[type=range]").forEach((other) => { other.value = range.value; });
    remember();
    views.forEach((other) => other.draw());
  });
  return element("section", { id: stage.name },
    element("div", { class: "head" }, element("h2", {}, stage.name), element("span", { class: "grey number" }, about.join(" · ")),
      element("div", { class: "tools" }, view.reset, element("label", {}, "smooth", range), element("span", {}, "drag to zoom"))),
    element("div", { class: "charts" }, ...view.charts.map((chart) => chart.figure)),
    stage.damaged ? element("p", { class: "notice" }, `${stage.damaged} damaged lines of metrics.jsonl are left out.`) : null,
    events(view), samples(stage, view));
}

function events(view) {
  const told = view.marks.filter((mark) => mark.why).slice(-200).reverse();
  if (!told.length) return null;
  return element("ul", { class: "events" }, ...told.map((mark) => {
    const name = element("b", {}, `${(FLAGS[mark.event] || ["•"])[0]} ${words(mark.event)}`);
    name.style.color = `var(${(FLAGS[mark.event] || ["", "--grey"])[1]})`;
    return element("li", { onpointerenter: () => view.hover(mark.step), onpointerleave: () => view.hover(null) },
      element("span", { class: "at" }, `step ${whole(mark.step)}`), name, element("span", {}, mark.why));
  }));
}

function samples(stage, view) {
  if (!stage.samples.length) return null;
  const steps = [...new Set(stage.samples.map((sample) => sample.step))];
  const shelf = element("div", {}), chips = element("div", { class: "chips" });
  const show = (step) => {
    for (const chip of chips.children) chip.setAttribute("aria-pressed", Number(chip.value) === step);
    shelf.replaceChildren(...stage.samples.filter((sample) => sample.step === step).map((sample) =>
      element("div", { class: "sample" }, element("span", { class: "prompt" }, String(sample.prompt ?? "")), String(sample.text ?? ""))));
  };
  for (const step of steps) {
    chips.append(element("button", { type: "button", value: step, onclick: () => { chosen.sample[stage.name] = step; remember(); show(step); },
      onpointerenter: () => view.hover(step), onpointerleave: () => view.hover(null) }, whole(step)));
  }
  show(steps.includes(chosen.sample[stage.name]) ? chosen.sample[stage.name] : steps.at(-1));
  return element("div", { class: "samples" }, element("h3", {}, "Samples ", element("span", { class: "unit grey" }, "at step")), chips, shelf);
}

function scores() {
  if (!run.scores) return null;
  return element("section", { id: "scores" }, element("div", { class: "head" }, element("h2", {}, "Held-out scores"), element("span", { class: "grey" }, "with 95 % intervals")),
    element("div", { class: "wide" }, element("table", {}, element("tr", {}, ...run.scores.columns.map((title) => element("th", {}, title))),
      ...run.scores.rows.map((row) => element("tr", {}, ...row.map((cell) => element("td", {}, cell)))))));
}

function details() {
  const facts = Object.entries(run.machine).map(([key, value]) => [words(key), key.endsWith("bytes") ? `${(value / 1e9).toFixed(1)} GB` : String(value)]);
  const rows = (pairs) => element("table", {}, ...pairs.map(([key, value]) => element("tr", {}, element("th", {}, key), element("td", {}, value))));
  const figures = run.stages.filter((stage) => Object.keys(stage.metrics).length).map((stage) => [stage.name,
    Object.entries(stage.metrics).map(([key, value]) => `${words(key)} ${typeof value === "number" ? short(value) : value}`).join(", ")]);
  const recipe = element("details", {}, element("summary", {}, "Recipe"), element("pre", {}, run.recipe));
  recipe.open = Boolean(chosen.open.recipe);
  recipe.addEventListener("toggle", () => { chosen.open.recipe = recipe.open; remember(); });
  return element("section", { id: "details" }, element("div", { class: "head" }, element("h2", {}, "Machine, results, recipe"), element("span", { class: "grey" }, run.folder)),
    element("div", { class: "two" }, element("div", { class: "wide" }, rows(facts)), element("div", { class: "wide" }, rows(figures))), element("p", {}, "\u00a0"), recipe);
}

function build() {
  const trained = run.stages.filter((stage) => Object.keys(stage.curves).length);
  const running = trained.findIndex((stage) => stage.state === "running");
  if (running > 0) trained.unshift(...trained.splice(running, 1)); // what goes on now comes first
  const parts = [header(), findings(), ...trained.map(stageSection), scores(), details()];
  document.getElementById("page").append(...parts.filter(Boolean));
  views.forEach((view) => view.draw());
  scrollTo(0, chosen.y);
  addEventListener("scroll", remember, { passive: true });
  new ResizeObserver(() => views.forEach((view) => view.draw())).observe(document.getElementById("page"));
}

/** A page that follows its run loads itself again, but not under the hands of its reader. */
function follow() {
  if (run.interval === null) return;
  const age = Date.now() / 1000 - run.written;
  if (age > 60 + 4 * run.interval) {
    const stale = document.getElementById("stale");
    stale.hidden = false;
    stale.textContent = `This page was written ${duration(age)} ago. To follow the run again: groundup status ${run.folder} --html --watch`;
  }
  const wait = 1000 * Math.max(run.interval, Math.min(60, age / 10));
  setTimeout(function again() {
    const busy = document.hidden || views.some((view) => view.at !== null) || String(getSelection()) !== "";
    if (busy) setTimeout(again, 1000);
    else { remember(); location.reload(); }
  }, wait);
}

build();
follow();
