// Draws the page of dashboard.py. `state` holds the view, the URL hash encodes it, and render() draws it.
// Texts of records are inserted only as text nodes and attributes. Nothing here parses HTML, so they cannot run code.
"use strict";
(() => {

// ---- Data and columns -------------------------------------------------------------------------------------------

const data = JSON.parse(document.getElementById("data").textContent);
const DASH = "\u2013";
const MAX_WHISKERS = 150;  // beyond this, whiskers would hide the points
const ROWS_PER_PAGE = 100;

const integerFormat = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const compactText = value =>
  (value !== 0 && Math.abs(value) < 99.95 ? value.toPrecision(3) : integerFormat.format(value));
const rateText = value => (value !== 0 && value < 1e-4 ? String(value.toExponential()) : String(value));

// How values of each kind are shown. A value is multiplied by `scale` to get its unit; only numeric kinds have a scale.
// `log` makes an axis logarithmic by default.
const KINDS = {
  text: { format: String },
  code: { format: String },
  flag: { format: value => (value ? "yes" : DASH) },
  count: { scale: 1, format: value => integerFormat.format(value), log: true },
  percent: { unit: "%", scale: 1, format: value => value.toFixed(3), log: true },
  score: { unit: "%", scale: 100, format: value => value.toFixed(1) },
  mib: { unit: "MiB", scale: 2 ** -20, format: compactText },
  kib: { unit: "KiB", scale: 2 ** -10, format: compactText, log: true },
  ms: { unit: "ms", scale: 1000, format: compactText },
  seconds: { unit: "s", scale: 1, format: compactText },
  nats: { unit: "nats", scale: 1, format: value => value.toFixed(3) },
  number: { scale: 1, format: compactText },
  rate: { scale: 1, format: rateText, log: true },
};

// Key, label, kind, better end and description of each column, in table order. A star marks the default columns.
const COLUMNS = [
  ["*model", "model", "text", null, "a pretrained backbone, or one with random weights"],
  ["*task", "task", "text", null, "the data set and its metric"],
  ["*method", "method", "text", null, "how the model is adapted"],
  ["family", "family", "text", null, "the kind of method"],
  ["*rank", "rank", "count", "low", "the method's size parameter, such as LoRA's r"],
  ["*target", "target", "text", null, "which weights are adapted"],
  ["scale", "scale", "text", null, "how LoRA's update is scaled, unless by alpha / r with alpha = r"],
  ["base", "base", "text", null, "how the frozen base is stored, unless in full precision"],
  ["optim", "optimizer", "text", null, "the optimizer, unless it is AdamW"],
  ["checkpointing", "checkpointing", "flag", null, "whether activations are recomputed in the backward pass instead of stored"],
  ["random", "random weights", "flag", null, "whether the weights are random: costs are valid then, but scores are meaningless"],
  ["*trainable_params", "trainable params", "count", "low", "trained parameters, including the head"],
  ["trainable_percent", "trainable", "percent", "low", "trained parameters as a percentage of all parameters"],
  ["head_params", "head params", "count", "low", "trained parameters in the task's head"],
  ["total_params", "all params", "count", "low", "all parameters"],
  ["*peak_allocated_bytes", "peak memory", "mib", "low", "allocated on the accelerator, measured"],
  ["peak_reserved_bytes", "peak reserved", "mib", "low", "reserved on the accelerator, measured"],
  ["*peak_own_bytes", "peak memory (own)", "mib", "low", "of the process, minus what it held before the model was loaded; measured"],
  ["*peak_resident_bytes", "peak memory (resident)", "mib", "low", "of the whole process, measured"],
  ["memory_weights", "weights", "mib", "low", "memory, calculated rather than measured"],
  ["memory_gradients", "gradients", "mib", "low", "memory, calculated rather than measured"],
  ["memory_optimizer", "optimizer state", "mib", "low", "memory, calculated rather than measured"],
  ["memory_activations", "activations", "mib", "low", "kept for the backward pass; calculated rather than measured"],
  ["adapter_bytes", "adapter", "kib", "low", "size on disk of what a trial saves"],
  ["*samples_per_second", "samples/s", "number", "high", "training speed of one trial alone, over warm steps"],
  ["tokens_per_second", "tokens/s", "number", "high", "training speed of one trial alone, over warm steps"],
  ["step_seconds_median", "step", "ms", "low", "median of warm steps"],
  ["step_seconds_p95", "step p95", "ms", "low", "95th percentile of warm steps"],
  ["eval_seconds", "evaluation", "seconds", "low", "duration of the evaluation in the probe"],
  ["train_seconds", "training", "seconds", "low", "training time of one trial alone, at the speed that the probe measured"],
  ["machine", "measured on", "text", null, "speed and peak memory are shown for one machine per table"],
  ["contended", "disturbed", "flag", null, "whether something else was running while speed was measured"],
  ["latency_bare", "latency bare", "ms", "low", "forward pass of one example, without the method"],
  ["latency_adapted", "latency adapted", "ms", "low", "forward pass of one example, with the method attached and not merged"],
  ["latency_merged", "latency merged", "ms", "low", "forward pass of one example, with the method merged into the weights"],
  ["*lr", "lr", "rate", null, "the learning rate, chosen on the select part"],
  ["*tuning", "tuning", "text", null, "how the learning rate was chosen; untuned cells have no verdict"],
  ["rates", "rates tried", "count", null, "number of learning rates it was chosen from"],
  ["*report_score", "score", "score", "high", "mean \u00b1 standard deviation over seeds (n), on the report part"],
  ["*flags", "flags", "text", null, "caveats about the score, explained below the table"],
  ["report_std", "score std", "score", "low", "standard deviation over seeds, on the report part"],
  ["report_low", "score from", "score", "high", "lower end of the 95% interval over seeds and examples; with one seed, over examples for this trained model only"],
  ["report_high", "score to", "score", "high", "upper end of the 95% interval over seeds and examples; with one seed, over examples for this trained model only"],
  ["seeds", "seeds", "count", "high", "finished seeds at the chosen rate"],
  ["select_score", "select score", "score", "high", "mean over seeds on the select part; not to be reported"],
  ["retention_before", "loss before", "nats", "low", "loss per token on texts outside the task, without the method"],
  ["retention_after", "loss after", "nats", "low", "loss per token on the same texts after training; the increase measures forgetting"],
  ["retention_std", "loss std", "nats", "low", "standard deviation of the loss after training, over seeds"],
  ["metric", "metric", "text", null, "the metric behind the score"],
  ["*outcome", "outcome", "text", null, "how the trials ended"],
  ["table", "table", "text", null, "cells with the same number share model, data and protocol, and may be compared"],
  ["*cell", "cell", "code", null, "hash of the cell's identity"],
];
const TRIAL_FIELDS = ["lr", "seed", "outcome", "select", "report", "best_epoch", "train_seconds", "eval_seconds", "pack",
  "error", "steps", "losses"];
const FACETS = ["model", "task", "method", "rank", "target", "outcome"];
const VIEW_AXES = { x: "Horizontal", y: "Vertical" };

const zipped = (names, values) => Object.fromEntries(names.map((name, index) => [name, values[index]]));

const cells = data.cells.map(({ row, trials, ...rest }) => {
  const cell = { ...zipped(data.fields, row), ...rest, trials: trials.map(trial => zipped(TRIAL_FIELDS, trial)) };
  // The row of a tuned cell describes only the trials at the chosen rate.
  const rowTrials = cell.tuning === "tuned" ? cell.trials.filter(trial => trial.lr === cell.lr) : cell.trials;
  const raceOutcome = !rowTrials.length && cell.outcome?.startsWith("race ") ? [cell.outcome.slice(5)] : [];
  cell.outcomes = [...new Set([...rowTrials.map(trial => trial.outcome), ...raceOutcome])];
  const errors = cell.trials.filter(trial => trial.error !== null).flatMap(trial => data.pool[trial.error].slice(0, 2));
  const searchedKeys = ["title", "model", "task", "method", "family", "target", "scale", "base", "optim", "cell",
    "outcome", "how", "flags"];
  cell.searchText = [...searchedKeys.map(key => cell[key] ?? ""), ...errors].join("\n").toLowerCase();
  return cell;
});
const byId = new Map(cells.map(cell => [cell.cell, cell]));
const metrics = new Set(cells.map(cell => cell.metric).filter(Boolean));
const hasValues = key => cells.some(cell => cell[key] !== null && cell[key] !== false);

const columns = COLUMNS.map(([name, label, kind, better, description]) => {
  const isDefault = name.startsWith("*"), key = name.replace("*", "");
  const column = { key, isDefault, label, kind, better, description, ...KINDS[kind] };
  if (column.key === "report_score" && metrics.size === 1) column.label = [...metrics][0].replaceAll("_", " ");
  column.heading = [column.label, column.unit].filter(Boolean).join(" ");
  return column;
}).filter(column => hasValues(column.key) || (column.isDefault && !/^peak|^flags$/.test(column.key)));
const columnOf = new Map(columns.map(column => [column.key, column]));
const numericColumns = columns.filter(column => column.scale && hasValues(column.key));
const defaultColumns = columns.filter(column => column.isDefault).map(column => column.key);

const formatValue = (column, value) => (value === null || value === undefined
  ? DASH : column.format(column.scale ? value * column.scale : value));
const plural = (count, noun) => `${integerFormat.format(count)} ${noun}${count === 1 ? "" : "s"}`;
const percentText = value => (100 * value).toFixed(1);
const metricLabel = cell => `${(cell.metric ?? "score").replaceAll("_", " ")} %`;
const fullName = cell => `${cell.title}, ${cell.model}, ${cell.task}`;

function scoreText(cell) {
  if (cell.report_score === null) return cell.went === "-" ? DASH : cell.went;
  const spread = cell.report_std === null ? "" : ` \u00b1 ${percentText(cell.report_std)}`;
  return `${percentText(cell.report_score)}${spread} (${cell.seeds})`;
}

// Times and speeds measured under other load are marked and never count as best.
const TIMED = /^(samples_per_second|tokens_per_second|step_seconds_|eval_seconds$|train_seconds$|latency_)/;
const isDisturbed = (cell, key) => cell.contended && cell[key] !== null && TIMED.test(key);

function entryText(cell, column) {
  if (column.key === "report_score") return scoreText(cell);
  if (column.key === "tuning") return cell.tuning === null ? DASH : cell.how;
  return `${isDisturbed(cell, column.key) ? "~" : ""}${formatValue(column, cell[column.key])}`;
}

// ---- View and URL ------------------------------------------------------------------------------------------------

const isNumeric = key => numericColumns.some(column => column.key === key);
const defaultView = {
  q: "", ...Object.fromEntries(FACETS.map(name => [name, []])), sort: "", cols: defaultColumns, page: 1,
  x: isNumeric("trainable_params") ? "trainable_params" : numericColumns[0].key,
  y: isNumeric("report_score") ? "report_score" : numericColumns.at(-1).key,
  xbetter: "", ybetter: "", xlog: null, ylog: null, cell: "", pick: [], compare: false,
};
let state = defaultView;

const betterEnd = (view, axis) => view[`${axis}better`] || columnOf.get(view[axis]).better || "low";
const isLog = (view, axis) => view[`${axis}log`] ?? Boolean(columnOf.get(view[axis]).log);

function hashOf(view) {
  const params = new URLSearchParams();
  if (view.q) params.set("q", view.q);
  for (const name of FACETS) for (const value of view[name]) params.append(name, value);
  if (view.sort) params.set("sort", view.sort);
  if (view.cols.join() !== defaultColumns.join()) params.set("cols", view.cols.join());
  if (view.page > 1) params.set("page", view.page);
  for (const axis of Object.keys(VIEW_AXES)) {
    const column = columnOf.get(view[axis]);
    if (view[axis] !== defaultView[axis]) params.set(axis, view[axis]);
    if (betterEnd(view, axis) !== (column.better || "low")) params.set(`${axis}better`, betterEnd(view, axis));
    if (isLog(view, axis) !== Boolean(column.log)) params.set(`${axis}log`, Number(isLog(view, axis)));
  }
  if (view.pick.length) params.set("pick", view.pick.join());
  if (view.compare) params.set("compare", "1");
  if (view.cell) params.set("cell", view.cell);
  return `#${params.toString().replaceAll("%2C", ",")}`;
}

function parseHash(hash) {
  const params = new URLSearchParams(hash.replace(/^#/, ""));
  const knownValues = (key, known) => (params.get(key) ?? "").split(",").filter(value => known.has(value));
  const page = Math.max(1, Number.parseInt(params.get("page"), 10) || 1);
  const view = { ...defaultView, q: params.get("q") ?? "", page };
  for (const name of FACETS) view[name] = [...new Set(params.getAll(name))];
  if (columnOf.has((params.get("sort") ?? "").replace(/^-/, ""))) view.sort = params.get("sort");
  const shownKeys = knownValues("cols", columnOf);
  if (shownKeys.length) view.cols = columns.map(column => column.key).filter(key => shownKeys.includes(key));
  for (const axis of Object.keys(VIEW_AXES)) {
    if (isNumeric(params.get(axis))) view[axis] = params.get(axis);
    if (["low", "high"].includes(params.get(`${axis}better`))) view[`${axis}better`] = params.get(`${axis}better`);
    if (params.has(`${axis}log`)) view[`${axis}log`] = params.get(`${axis}log`) === "1";
  }
  view.pick = [...new Set(knownValues("pick", byId))].slice(-2);
  view.compare = params.get("compare") === "1" && view.pick.length === 2;
  view.cell = params.get("cell") ?? "";
  return view;
}

const hashWith = changes => hashOf({ ...state, ...changes });
let urlTimer = 0;

// Change the view without a new history entry. Browsers limit how often a page may rewrite its URL, so the URL is
// written once after a pause in typing.
function update(changes) {
  state = { ...state, ...changes };
  render();
  clearTimeout(urlTimer);
  urlTimer = setTimeout(writeUrl, 150);
}

function writeUrl() {
  clearTimeout(urlTimer);
  urlTimer = 0;
  if (location.hash !== hashOf(state)) history.replaceState(null, "", hashOf(state));
}

function navigate(hash) {
  writeUrl();
  location.hash = hash;
}

// ---- Filtering and sorting ---------------------------------------------------------------------------------------

const compareTexts = new Intl.Collator("en", { numeric: true }).compare;
const outcomesOf = cell => (cell.outcomes.length ? cell.outcomes : [""]);
const facetValues = (cell, facet) => (facet === "outcome" ? outcomesOf(cell) : [String(cell[facet] ?? "")]);

function filteredCells(view) {
  const words = view.q.toLowerCase().split(/\s+/).filter(Boolean);
  const selections = FACETS.filter(name => view[name].length).map(name => [name, new Set(view[name])]);
  return cells.filter(cell => words.every(word => cell.searchText.includes(word))
    && selections.every(([name, values]) => facetValues(cell, name).some(value => values.has(value))));
}

function sortedCells(rows, sort) {
  if (!sort) return rows;
  const key = sort.replace(/^-/, ""), sign = sort.startsWith("-") ? -1 : 1;
  const compare = columnOf.get(key).scale ? (a, b) => a - b : compareTexts;
  const known = rows.filter(cell => cell[key] !== null), missing = rows.filter(cell => cell[key] === null);
  return [...known.sort((a, b) => sign * compare(a[key], b[key])), ...missing];
}

// ---- Elements ----------------------------------------------------------------------------------------------------

const $ = id => document.getElementById(id);

const isPresent = value => value !== null && value !== undefined && value !== false;

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (isPresent(value)) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(2).filter(isPresent));
  return element;
}

const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

let announcementTimer = 0;

function announce(text) {
  $("said").textContent = text;
  clearTimeout(announcementTimer);
  announcementTimer = setTimeout(() => { $("said").textContent = ""; }, 5000);
}

// Rebuilding removes the focused element. Focus its replacement, which has the same data-keep.
function keepFocus(rebuild) {
  const focusName = document.activeElement?.dataset?.keep;
  rebuild();
  if (focusName && document.activeElement === document.body)
    document.querySelector(`[data-keep="${CSS.escape(focusName)}"]`)?.focus({ preventScroll: true });
}

// Seven shapes and eight colours, in the same order as in figures/styles.py.
const SHAPES = [
  "M-4.6,0a4.6,4.6 0 1,0 9.2,0a4.6,4.6 0 1,0 -9.2,0z", "M-4.1,-4.1h8.2v8.2h-8.2z", "M0,-5.4L5.3,4.1H-5.3z",
  "M0,-5.9L5.9,0L0,5.9L-5.9,0z", "M0,5.4L5.3,-4.1H-5.3z",
  "M-1.8,-5.2h3.6v3.4h3.4v3.6h-3.4v3.4h-3.6v-3.4h-3.4v-3.6h3.4z", "M-4.8,-4.8H4.8L-4.8,4.8H4.8z",
];
const markStyles = new Map(data.methods.map(name =>
  [name, { colour: `c${data.looks[name] % 8}`, shape: SHAPES[data.looks[name] % 7] }]));
const markPath = method => s("path", { d: markStyles.get(method).shape, class: markStyles.get(method).colour });
const markIcon = method => s("svg", { class: "key", viewBox: "-7 -7 14 14", "aria-hidden": "true" }, markPath(method));

// ---- Filters -----------------------------------------------------------------------------------------------------

const facetLabel = value => (value === "" ? `${DASH} (none)` : value);

function buildFacets() {
  for (const name of FACETS) {
    const counts = new Map();
    for (const cell of cells)
      for (const value of facetValues(cell, name)) counts.set(value, (counts.get(value) ?? 0) + 1);
    const values = [...counts.keys()].sort(compareTexts);
    const choices = values.map(value => h("label", {},
      h("input", { type: "checkbox", value, onchange: event => toggleFacetValue(name, value, event.target.checked) }),
      h("span", {}, facetLabel(value)), h("span", { class: "many" }, integerFormat.format(counts.get(value)))));
    $("facets").append(h("details", { class: "menu", id: `facet-${name}` },
      h("summary", {}, name), h("fieldset", { class: "choices" }, h("legend", { class: "unseen" }, name), choices)));
  }
}

function toggleFacetValue(name, value, selected) {
  update({ [name]: selected ? [...state[name], value] : state[name].filter(other => other !== value), page: 1 });
}

function showFacets() {
  for (const name of FACETS) {
    const menu = $(`facet-${name}`), selected = state[name];
    menu.querySelector("summary").textContent =
      !selected.length ? name : `${name}: ${selected.length === 1 ? facetLabel(selected[0]) : `${selected.length} chosen`}`;
    menu.classList.toggle("on", selected.length > 0);
    for (const box of menu.querySelectorAll("input")) box.checked = selected.includes(box.value);
  }
  if ($("search").value !== state.q) $("search").value = state.q;
  $("clear").hidden = !state.q && FACETS.every(name => !state[name].length);
}

function buildColumns() {
  const toggle = ({ target }) => {
    const keys = columns.map(column => column.key);
    const chosenKeys = keys.filter(key => (key === target.value ? target.checked : state.cols.includes(key)));
    update({ cols: chosenKeys.length ? chosenKeys : state.cols });  // keep a column: its entries link to the cells
  };
  $("columns").querySelector(".choices").append(
    ...columns.map(column => h("label", { title: column.description },
      h("input", { type: "checkbox", value: column.key, onchange: toggle }), h("span", {}, column.heading))),
    h("button", { type: "button", onclick: () => update({ cols: defaultColumns }) }, "Default columns"));
}

// ---- Table -------------------------------------------------------------------------------------------------------

const chosenColumns = () => state.cols.map(key => columnOf.get(key));

function showTable(rows) {
  const pageCount = Math.max(1, Math.ceil(rows.length / ROWS_PER_PAGE)), page = Math.min(state.page, pageCount);
  const start = (page - 1) * ROWS_PER_PAGE, pageCells = rows.slice(start, start + ROWS_PER_PAGE);
  const tableColumns = chosenColumns();
  const headColumn = tableColumns.find(column => column.key === "method") ?? tableColumns[0];
  showCount(rows.length, page, pageCount);
  $("table").replaceChildren(rows.length ? h("table", { role: "table", "aria-rowcount": rows.length + 1 },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" },
      h("th", { role: "columnheader", scope: "col" }, h("span", { class: "unseen" }, "compare")),
      tableColumns.map(headerOf))),
    h("tbody", { role: "rowgroup" }, pageCells.map((cell, index) =>
      rowOf(cell, tableColumns, headColumn, start + index + 2))),
  ) : h("p", { class: "none" }, "No cell passes these filters."));
  const position = h("span", {}, `Page ${page} of ${pageCount}`);
  $("pages").replaceChildren(...(pageCount > 1
    ? [pageButton("Previous", page - 1, pageCount), position, pageButton("Next", page + 1, pageCount)] : []));
  for (const box of $("columns").querySelectorAll("input")) box.checked = state.cols.includes(box.value);
}

function showCount(count, page, pageCount) {
  const matching = count === cells.length ? "" : `${integerFormat.format(count)} of `;
  const text = `${matching}${plural(cells.length, "cell")}${pageCount > 1 ? `, page ${page} of ${pageCount}` : ""}`;
  if ($("count").textContent !== text) $("count").textContent = text;  // screen readers announce each change
}

function pageButton(label, page, pageCount) {
  const goToPage = () => update({ page });
  return h("button", {
    type: "button", disabled: page < 1 || page > pageCount, "data-keep": label, onclick: goToPage,
  }, label);
}

function headerOf(column) {
  const descending = state.sort === `-${column.key}`, ascending = state.sort === column.key;
  const nextSign = ascending || descending ? (ascending ? "-" : "") : column.better === "high" ? "-" : "";
  return h("th", {
    role: "columnheader", scope: "col", class: column.scale ? "num" : null,
    "aria-sort": ascending ? "ascending" : descending ? "descending" : "none",
  }, h("button", {
    type: "button", title: column.description, "data-keep": `sort-${column.key}`,
    onclick: () => update({ sort: `${nextSign}${column.key}`, page: 1 }),
  }, h("span", {}, column.label, column.unit ? h("span", { class: "unit" }, ` ${column.unit}`) : null)));
}

function rowOf(cell, tableColumns, headColumn, rowIndex) {
  const openCell = event => {
    if (!event.target.closest("a, input") && !getSelection().toString()) navigate(hashWith({ cell: cell.cell }));
  };
  return h("tr", {
    role: "row", "aria-rowindex": rowIndex, "data-cell": cell.cell, onclick: openCell,
    onpointerenter: () => highlightPoint(cell.cell, true), onpointerleave: () => highlightPoint(cell.cell, false),
  }, h("td", { role: "cell", class: "tick" }, h("input", {
    type: "checkbox", "aria-label": `compare ${fullName(cell)}`, checked: state.pick.includes(cell.cell),
    "data-keep": `pick-${cell.cell}`, onchange: event => setPicked(cell.cell, event.target.checked),
  })), tableColumns.map(column => entryOf(cell, column, column === headColumn)));
}

function entryOf(cell, column, isHead) {
  const text = entryText(cell, column);
  const isFailure = (column.key === "report_score" && cell.report_score === null && text !== DASH)
    || (column.key === "outcome" && cell.outcomes.some(outcome => outcome !== "ok"));
  const content = column.key === "method" ? [markIcon(cell.method), text] : [text];
  const classes = [column.scale && "num", column.kind === "code" && "code", isFailure && "bad", text === DASH && "nil"];
  return h(isHead ? "th" : "td", {
    role: isHead ? "rowheader" : "cell", scope: isHead ? "row" : null, "data-label": column.heading,
    class: classes.filter(Boolean).join(" ") || null,
  }, isHead ? h("a", {
    href: hashWith({ cell: cell.cell }), "data-keep": `open-${cell.cell}`, "aria-label": `${text}: ${fullName(cell)}`,
  }, content) : content);
}

function setPicked(id, picked) {
  update({ pick: picked ? [...state.pick, id].slice(-2) : state.pick.filter(other => other !== id) });
}

function showPicked() {
  $("picked").hidden = !state.pick.length;
  $("picked").replaceChildren(
    h("span", { class: "label" }, "Compare"),
    ...state.pick.map(id => h("span", { class: "chip" }, markIcon(byId.get(id).method), byId.get(id).title, h("button", {
      type: "button", "aria-label": `remove ${fullName(byId.get(id))} from the comparison`, onclick: () => setPicked(id, false),
    }, "\u00d7"))),
    state.pick.length < 2 ? h("span", { class: "quiet" }, "tick one more row")
      : h("a", { class: "button", href: hashWith({ compare: true }), "data-keep": "compare" }, "Side by side"));
}

// ---- Copying -----------------------------------------------------------------------------------------------------

const asciiDashes = text => text.replaceAll(DASH, "-");
const TEX_ESCAPES = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "\u00b1": "$\\pm$" };
const oneLine = text => asciiDashes(text).replace(/\s+/g, " ");
const escapeTex = text => oneLine(text)
  .replace(/[\\~^\u00b1&%$#_{}]/g, character => TEX_ESCAPES[character] ?? `\\${character}`);
const escapeMarkdown = text => oneLine(text).replace(/[\\|<*[\]`]/g, "\\$&");
// Spreadsheets run texts with these first characters as formulas. A leading apostrophe prevents that.
const withoutFormula = text => (/^[=+@\t\r-]/.test(text) ? `'${text}` : text);
const csvField = value => {
  const text = value === null || value === undefined ? ""
    : typeof value === "string" ? withoutFormula(value) : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

const FORMATS = {
  Markdown(tableColumns, rows) {
    const lines = [tableColumns.map(column => escapeMarkdown(column.heading)),
      tableColumns.map(column => (column.scale ? "---:" : "---")),
      ...rows.map(cell => tableColumns.map(column => escapeMarkdown(entryText(cell, column))))];
    return lines.map(line => `| ${line.join(" | ")} |\n`).join("");
  },
  LaTeX(tableColumns, rows) {
    const texRow = entries => `${entries.map(escapeTex).join(" & ")} \\\\\n`;
    return `\\begin{tabular}{${tableColumns.map(column => (column.scale ? "r" : "l")).join("")}}\n\\toprule\n`
      + `${texRow(tableColumns.map(column => column.heading))}\\midrule\n`
      + `${rows.map(cell => texRow(tableColumns.map(column => entryText(cell, column)))).join("")}\\bottomrule\n\\end{tabular}\n`;
  },
  // For programs: unrounded numbers in base units, with the column names of table.csv. The score column becomes mean,
  // standard deviation and number of seeds.
  CSV(tableColumns, rows) {
    const namesOf = key => (key === "report_score" ? ["report_score", "report_std", "seeds"] : [key]);
    const names = [...new Set(tableColumns.flatMap(column => namesOf(column.key)))];
    const lines = [names, ...rows.map(cell => names.map(name => cell[name]))];
    return lines.map(line => `${line.map(csvField).join()}\n`).join("");
  },
};

async function copy(text, label) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    if (!copySelection(text)) return showCopyDialog(text);
  }
  announce(`Copied ${label}.`);
}

function copySelection(text) {
  const focused = document.activeElement;
  const textarea = h("textarea", { class: "unseen", readonly: true, "aria-hidden": "true" });
  textarea.value = text;
  document.body.append(textarea);
  textarea.select();
  let copied = false;
  try { copied = document.execCommand("copy"); } catch { /* the browser has no copy command */ }
  textarea.remove();
  focused?.focus({ preventScroll: true });
  return copied;
}

function showCopyDialog(text) {
  $("by-hand-text").value = text;
  $("by-hand").showModal();
  $("by-hand-text").select();
}

// ---- Axes --------------------------------------------------------------------------------------------------------

const SUFFIXES = [[1e9, "G"], [1e6, "M"], [1e4, "k"]];

function tickText(value) {
  const [size, suffix] = SUFFIXES.find(([minimum]) => Math.abs(value) >= minimum) ?? [1, ""];
  const scaled = suffix === "k" ? value / 1e3 : value / size;
  return value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential(0) : `${Number(scaled.toPrecision(4))}${suffix}`;
}

function evenTicks(low, high, maxTicks) {
  const roughStep = (high - low) / maxTicks, power = 10 ** Math.floor(Math.log10(roughStep));
  const step = power * [1, 2, 5, 10].find(factor => factor * power >= roughStep);
  const first = Math.ceil(low / step), ticks = [];
  for (let multiple = first; multiple * step <= high; multiple += 1)
    ticks.push(Number((multiple * step).toPrecision(12)));
  return ticks;
}

function logTicks(low, high, maxTicks) {
  const powers = Array.from({ length: Math.ceil(high) - Math.floor(low) + 1 }, (_, offset) => Math.floor(low) + offset);
  for (const factors of [[1], [1, 3], [1, 2, 5]]) {
    const ticks = powers.flatMap(power => factors.map(factor => factor * 10 ** power))
      .filter(value => Math.log10(value) >= low && Math.log10(value) <= high);
    if (ticks.length >= 3) return ticks.filter((_, index) => index % Math.ceil(ticks.length / maxTicks) === 0);
  }
  return evenTicks(10 ** low, 10 ** high, maxTicks);
}

// Map values, in the column's displayed unit, to screen positions between `from` and `to`, and place the ticks.
function axis(values, { log, from, to, maxTicks }) {
  const transform = log ? Math.log10 : value => value;
  let low = transform(Math.min(...values)), high = transform(Math.max(...values));
  const margin = (high - low) * 0.06 || (log ? 0.2 : Math.abs(high) * 0.05 || 1);
  low -= margin;
  high += margin;
  const toScreen = value => from + ((transform(value) - low) / (high - low)) * (to - from);
  const ticks = (log ? logTicks : evenTicks)(low, high, maxTicks);
  return { toScreen, ticks: ticks.map(value => ({ position: toScreen(value), text: tickText(value) })) };
}

const boxOf = (width, height) => ({ left: 62, right: width - 14, top: 12, bottom: height - 46 });

// Draw both axes with ticks and titles. Screen readers skip them, because the plot's aria-label names the axes.
function frame(box, x, y, titles) {
  const line = (x1, y1, x2, y2, className) => s("line", { x1, y1, x2, y2, class: className });
  const text = (left, top, anchor, content, attributes) =>
    s("text", { x: left, y: top, "text-anchor": anchor, ...attributes }, content);
  const rotation = `translate(13 ${(box.top + box.bottom) / 2}) rotate(-90)`;
  return s("g", { "aria-hidden": "true" },
    y.ticks.map(tick => [
      line(box.left, tick.position, box.right, tick.position, "grid"),
      text(box.left - 8, tick.position + 4, "end", tick.text),
    ]),
    x.ticks.map(tick => [
      line(tick.position, box.bottom, tick.position, box.bottom + 4, "rule"),
      text(tick.position, box.bottom + 19, "middle", tick.text),
    ]),
    line(box.left, box.bottom, box.right, box.bottom, "rule"),
    text((box.left + box.right) / 2, box.bottom + 40, "middle", titles.x, { class: "title" }),
    text(0, 0, "middle", titles.y, { class: "title", transform: rotation }));
}

// ---- Trade-off plot ----------------------------------------------------------------------------------------------

function buildAxes() {
  for (const [axisName, title] of Object.entries(VIEW_AXES)) {
    const chooseColumn = event =>
      update({ [axisName]: event.target.value, [`${axisName}better`]: "", [`${axisName}log`]: null });
    const options = numericColumns.map(column => h("option", { value: column.key }, column.heading));
    $(`axis-${axisName}`).append(
      h("label", {}, h("span", { class: "label" }, title), h("select", { id: axisName, onchange: chooseColumn }, options)),
      h("label", {}, h("span", { class: "unseen" }, `${title}: better end`), h("select", {
        id: `${axisName}better`, onchange: event => update({ [`${axisName}better`]: event.target.value }),
      }, h("option", { value: "low" }, "small is better"), h("option", { value: "high" }, "large is better"))),
      h("label", { class: "box" }, h("input", {
        type: "checkbox", id: `${axisName}log`, onchange: event => update({ [`${axisName}log`]: event.target.checked }),
      }), "log", h("span", { class: "unseen" }, ` scale, ${title.toLowerCase()}`)));
  }
}

const SCORES = /_score$|^report_(std|low|high)$/;  // untuned cells cannot be best in these

// Return the points that no other point of the same table dominates. Only points of one table are comparable.
function paretoFront(points) {
  const sign = { x: betterEnd(state, "x") === "low" ? 1 : -1, y: betterEnd(state, "y") === "low" ? 1 : -1 };
  const dominates = (a, b) => a.cell.table === b.cell.table
    && sign.x * a.x <= sign.x * b.x && sign.y * a.y <= sign.y * b.y && (a.x !== b.x || a.y !== b.y);
  const isExcluded = (cell, key) => isDisturbed(cell, key) || (cell.untuned && SCORES.test(key));
  const eligible = points.filter(point => ![state.x, state.y].some(key => isExcluded(point.cell, key)));
  return new Set(eligible.filter(point => !eligible.some(other => dominates(other, point))));
}

// Return the path of a front, which bounds the region that its points dominate. Between two neighbouring points,
// it keeps the y of the one with the better x.
function staircase(frontPoints, x, y) {
  const lowIsBetter = betterEnd(state, "x") === "low";
  const corners = [...frontPoints].sort((a, b) => a.x - b.x).map(point => [x.toScreen(point.x), y.toScreen(point.y)]);
  return corners.map(([left, top], index) => {
    if (!index) return `M${left},${top}`;
    return lowIsBetter ? `H${left}V${top}` : `V${top}H${left}`;
  }).join("");
}

let focusableId = "";  // the cell whose point is in the tab order; arrow keys reach the other points

function showPlot(rows) {
  for (const axisName of Object.keys(VIEW_AXES)) {
    $(axisName).value = state[axisName];
    $(`${axisName}better`).value = betterEnd(state, axisName);
    $(`${axisName}log`).checked = isLog(state, axisName);
  }
  const xColumn = columnOf.get(state.x), yColumn = columnOf.get(state.y);
  const log = { x: isLog(state, "x"), y: isLog(state, "y") };
  const points = rows.filter(cell => cell[xColumn.key] !== null && cell[yColumn.key] !== null)
    .map(cell => ({ cell, x: cell[xColumn.key] * xColumn.scale, y: cell[yColumn.key] * yColumn.scale }))
    .filter(point => (!log.x || point.x > 0) && (!log.y || point.y > 0));
  const emptyNote = () => h("p", { class: "none" }, "No cell shown has both values.");
  const tooltip = h("div", { class: "tip", hidden: true, id: "tip" });
  $("plot").replaceChildren(points.length ? drawPlot(points, paretoFront(points), log) : emptyNote(), tooltip);
  $("plot-note").textContent = plotNote(points, rows.length, log.x || log.y);
  showLegend(rows);
}

// Return what the points' intervals average over.
function intervalScope(points) {
  const single = points.filter(point => point.cell.seeds === 1).length;
  if (single === points.length) return "examples, for these trained models only: other seeds would score differently";
  return `seeds and examples${single ? "; with one seed, over examples for this trained model only" : ""}`;
}

function plotNote(points, rowCount, log) {
  const tables = new Set(points.map(point => point.cell.table)).size;
  const showsScore = [state.x, state.y].some(key => SCORES.test(key));
  const restriction = log ? ", above 0 where the axis is logarithmic" : "";
  return [
    points.length < rowCount
      && `${integerFormat.format(points.length)} of ${integerFormat.format(rowCount)} cells have both values${restriction}.`,
    state.y === "report_score" && points.length <= MAX_WHISKERS && points.some(point => point.cell.report_low !== null)
      && `Whiskers: 95% intervals over ${intervalScope(points)}.`,
    points.some(point => !showsScore || !point.cell.untuned)
      && "Ringed and joined: the Pareto front. No cell is at least as good as these in both measures and better in one.",
    showsScore && points.some(point => point.cell.untuned) && "Cells with untuned rates are not on any front.",
    tables > 1 && `These cells belong to ${tables} tables (model, data or protocol differ) that must not be compared:`,
    tables > 1 && "each has its own front.",
  ].filter(Boolean).join(" ");
}

function drawPlot(points, front, log) {
  const width = Math.max(280, $("plot").clientWidth), height = Math.round(Math.min(440, Math.max(300, width * 0.5)));
  const xColumn = columnOf.get(state.x), yColumn = columnOf.get(state.y), box = boxOf(width, height);
  const hasWhiskers = yColumn.key === "report_score" && !log.y && points.length <= MAX_WHISKERS;
  const verticalExtent = point => (hasWhiskers && point.cell.report_low !== null
    ? [point.y, 100 * point.cell.report_low, 100 * point.cell.report_high] : [point.y]);
  const xTicks = Math.floor(width / 80);
  const x = axis(points.map(point => point.x), { log: log.x, from: box.left, to: box.right, maxTicks: xTicks });
  const y = axis(points.flatMap(verticalExtent), { log: log.y, from: box.bottom, to: box.top, maxTicks: 6 });
  const ordered = [...points].sort((a, b) => a.x - b.x || a.y - b.y);
  if (!ordered.some(point => point.cell.cell === focusableId)) focusableId = ordered[0].cell.cell;
  const summary = `${yColumn.heading} over ${xColumn.heading}: `
    + `${plural(points.length, "cell")}, ${front.size} on a Pareto front.`;
  const fronts = [...Map.groupBy(front, point => point.cell.table).values()];
  return s("svg", {
    width, height, viewBox: `0 0 ${width} ${height}`, role: "group", onkeydown: event => moveFocus(event, ordered),
    "aria-label": `${summary} Arrow keys move between points; Enter opens a cell.`,
  },
  frame(box, x, y, { x: xColumn.heading, y: yColumn.heading }),
  fronts.map(frontPoints => s("path", { class: "front", d: staircase(frontPoints, x, y) })),
  [...ordered].sort((a, b) => front.has(a) - front.has(b))
    .map(point => pointLink(point, front.has(point), x, y, hasWhiskers)));
}

function pointLink(point, onFront, x, y, hasWhiskers) {
  const { cell } = point, transform = `translate(${x.toScreen(point.x).toFixed(1)} ${y.toScreen(point.y).toFixed(1)})`;
  const measures = [state.x, state.y].map(key => columnOf.get(key))
    .map(column => `${column.heading}: ${entryText(cell, column)}`);
  const lines = [fullName(cell), ...measures, ...(onFront ? ["on the Pareto front"] : [])];
  const describe = () => { showTip(point, lines, x, y); focusableId = cell.cell; };
  return s("a", {
    href: hashWith({ cell: cell.cell }), class: onFront ? "point best" : "point", transform: transform,
    "data-cell": cell.cell, "data-method": cell.method, "data-keep": `point-${cell.cell}`,
    tabindex: cell.cell === focusableId ? 0 : -1, "aria-label": lines.join("; "),
    onpointerenter: describe, onfocus: describe, onpointerleave: hideTip, onblur: hideTip,
  }, hasWhiskers && cell.report_low !== null ? whisker(point, y) : null,
  s("circle", { r: 11, class: "hit" }), onFront ? s("circle", { r: 9, class: "ring" }) : null, markPath(cell.method));
}

function whisker(point, y) {
  const [low, high] = [point.cell.report_low, point.cell.report_high]
    .map(edge => (y.toScreen(100 * edge) - y.toScreen(point.y)).toFixed(1));
  return s("path", { class: "spread", d: `M0,${low}V${high}` });
}

function showTip(point, description, x, y) {
  const tooltip = $("tip"), left = x.toScreen(point.x), inRightHalf = left > $("plot").clientWidth / 2;
  const lines = [`${point.cell.model}, ${point.cell.task}`, ...description.slice(1)];
  tooltip.replaceChildren(h("strong", {}, point.cell.title), ...lines.map(text => h("div", {}, text)));
  tooltip.style.left = inRightHalf ? "auto" : `${left + 14}px`;
  tooltip.style.right = inRightHalf ? `${$("plot").clientWidth - left + 14}px` : "auto";
  tooltip.style.top = `${y.toScreen(point.y)}px`;
  tooltip.hidden = false;
}

function hideTip() {
  if ($("tip")) $("tip").hidden = true;
}

function moveFocus(event, ordered) {
  const index = ordered.findIndex(point => point.cell.cell === event.target.dataset.cell);
  const [previous, following] = [index - 1, index + 1];
  const destinations = {
    ArrowRight: following, ArrowUp: following, ArrowLeft: previous, ArrowDown: previous, Home: 0, End: ordered.length - 1,
  };
  const next = ordered[destinations[event.key]];
  if (!(event.key in destinations)) return;
  event.preventDefault();
  if (!next) return;
  event.target.setAttribute("tabindex", -1);
  const target = $("plot").querySelector(`[data-cell="${CSS.escape(next.cell.cell)}"]`);
  target.setAttribute("tabindex", 0);
  target.focus({ preventScroll: true });
}

function highlightPoint(id, highlighted) {
  $("plot").querySelector(`[data-cell="${CSS.escape(id)}"]`)?.classList.toggle("lit", highlighted);
}

function dimOtherMethods(method) {
  for (const point of $("plot").querySelectorAll(".point"))
    point.classList.toggle("dim", method !== null && point.dataset.method !== method);
}

function showLegend(rows) {
  const methods = data.methods.filter(method => rows.some(cell => cell.method === method));
  $("legend").replaceChildren(...methods.map(method => {
    const isOnlyMethod = state.method.length === 1 && state.method[0] === method;
    const [dimOthers, undim] = [() => dimOtherMethods(method), () => dimOtherMethods(null)];
    return h("button", {
      type: "button", "aria-pressed": String(isOnlyMethod),
      title: isOnlyMethod ? "show all methods" : `show only ${method}`,
      "data-keep": `legend-${method}`, onclick: () => update({ method: isOnlyMethod ? [] : [method], page: 1 }),
      onpointerenter: dimOthers, onpointerleave: undim, onfocus: dimOthers, onblur: undim,
    }, markIcon(method), h("span", {}, method));
  }));
}

// ---- Configuration and provenance --------------------------------------------------------------------------------

const leafText = value => (value === null ? DASH : typeof value === "string" ? value : JSON.stringify(value));

// Map dotted names to the leaf values of pooled parts. If the records of a cell disagree, a leaf lists every value.
function leaves(partNumbers) {
  const texts = new Map();
  const add = (name, value) => {
    if (value !== null && typeof value === "object" && !Array.isArray(value) && Object.keys(value).length)
      for (const [innerName, innerValue] of Object.entries(value)) add(`${name}.${innerName}`, innerValue);
    else texts.set(name, (texts.get(name) ?? new Set()).add(leafText(value)));
  };
  for (const number of partNumbers) add(...data.pool[number]);
  return new Map([...texts].map(([name, alternatives]) => [name, [...alternatives].join(" | ")]));
}

function factList(facts) {
  const entries = [...facts].map(([name, text]) => h("div", {}, h("dt", {}, name), h("dd", {}, text)));
  return h("dl", { class: "facts" }, entries);
}

// Return a table. The first entry of each row is the row heading.
function dataTable(headings, rows, label, className) {
  const dataCells = values => values.map(value => h("td", {}, value));
  const body = rows.map(([head, ...values]) => h("tr", {}, h("th", { scope: "row" }, head), dataCells(values)));
  return h("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": label }, h("table", { class: className },
    h("thead", {}, h("tr", {}, headings.map(text => h("th", { scope: "col" }, text)))), h("tbody", {}, body)));
}

// ---- Loss curves -------------------------------------------------------------------------------------------------

function curvePoints(trial) {
  return trial.losses.map((loss, index) => [data.pool[trial.steps][index], loss]).filter(([, loss]) => loss !== null);
}

function lossFigure(series) {
  const drawn = series.map(curve => ({ ...curve, points: curvePoints(curve) })).filter(curve => curve.points.length);
  if (!drawn.length) return h("p", { class: "quiet" }, "No losses are recorded.");
  const width = Math.max(280, Math.min(960, $("page").clientWidth)), height = 300, box = boxOf(width, height);
  const points = drawn.flatMap(curve => curve.points);
  const x = axis(points.map(([step]) => step), { from: box.left, to: box.right, maxTicks: Math.floor(width / 90) });
  const y = axis(points.map(([, loss]) => loss), { from: box.bottom, to: box.top, maxTicks: 5 });
  const strokePath = ({ className, dashes }, d, ...children) =>
    s("path", { class: `curve ${className}`, "stroke-dasharray": dashes, d }, children);
  const coordinates = ([step, loss]) => `${x.toScreen(step).toFixed(1)},${y.toScreen(loss).toFixed(1)}`;
  const pathOf = curve => `M${curve.points.map(coordinates).join("L")}`;
  const legendSample = curve =>
    s("svg", { class: "stroke", viewBox: "0 0 28 8", "aria-hidden": "true" }, strokePath(curve, "M0,4H28"));
  const groups = new Map(drawn.map(curve => [curve.group, curve]));
  return h("figure", {},
    s("svg", {
      width, height, viewBox: `0 0 ${width} ${height}`, role: "img",
      "aria-label": `training loss by step of ${plural(drawn.length, "trial")}`,
    }, frame(box, x, y, { x: "step", y: "training loss" }),
    drawn.map(curve => strokePath(curve, pathOf(curve), s("title", {}, curve.name)))),
    h("figcaption", {}, [...groups].map(([group, curve]) => h("span", {}, legendSample(curve), group)),
      h("span", { class: "quiet" }, "one line per seed; long curves show means of neighbouring steps")));
}

const DASHES = ["6 3", "2 3", "9 3 2 3", "1 4", "12 4"];

// The chosen rate has the method's colour; other rates are grey and dashed.
function seriesOf(cell) {
  const otherRates = [...new Set(cell.trials.map(trial => trial.lr))].filter(lr => lr !== cell.lr);
  return cell.trials.map(trial => {
    const index = otherRates.indexOf(trial.lr), isChosen = index < 0;
    const lr = trial.lr === null ? "no rate" : `lr ${rateText(trial.lr)}`;
    return {
      ...trial,
      name: `${lr}, seed ${trial.seed}: ${trial.outcome}`,
      group: isChosen && otherRates.length ? `${lr} (chosen)` : lr,
      className: isChosen ? `l${markStyles.get(cell.method).colour}` : "lesser",
      dashes: isChosen ? null : DASHES[index % DASHES.length],
    };
  });
}

// ---- Cell page ---------------------------------------------------------------------------------------------------

const backLink = () => h("p", { class: "back" }, h("a", { href: hashWith({ cell: "", compare: false }) }, "\u2190 All cells"));
const pageHeading = (text, ...children) => h("h2", { tabindex: -1, id: "page-title" }, ...children, text);
const notesOf = cell => cell.made.map(number => data.pool[number])
  .flatMap(([name, value]) => (name === "notes" && value) || []);
const IN_HEADER = ["model", "task", "cell", "report_score", "outcome"];

function cellPage(id) {
  const cell = byId.get(id);
  if (!cell) return [backLink(), pageHeading("No such cell"), h("p", {}, `These records have no cell ${id}.`)];
  const factColumns = columns.filter(column => !IN_HEADER.includes(column.key) && entryText(cell, column) !== DASH);
  const randomNote = "Random weights: the costs are valid, but the scores are meaningless and not shown.";
  return [
    backLink(),
    pageHeading(cell.title, markIcon(cell.method)),
    h("p", { class: "quiet" }, `${cell.model} on ${cell.task}, cell `, h("code", {}, id)),
    h("p", { class: "score" }, h("strong", {}, scoreText(cell)), cell.report_score === null ? "" : ` ${metricLabel(cell)}`,
      h("span", { class: "quiet" }, ` ${cell.outcome ?? "no trial yet"}`)),
    cell.random && h("p", { class: "warning" }, randomNote),
    cell.untuned && cell.report_score !== null
      && h("p", { class: "warning" }, `Trained ${cell.untuned}: no verdict. To tune: ${cell.tune}`),
    cell.flagged.map(flag => h("p", { class: "warning" }, `Flag ${flag}.`)),
    notesOf(cell).map(note => h("p", { class: "warning" }, `Note: ${note}.`)),
    compareControls(cell),
    factList(factColumns.map(column => [column.heading, entryText(cell, column)])),
    h("h3", {}, "Loss"), lossFigure(seriesOf(cell)),
    cell.race.length > 0 && [h("h3", {}, "Race"), raceTable(cell)],
    h("h3", {}, "Trials"), trialTable(cell),
    h("h3", {}, "Run it again"), commandBlock(cell),
    h("h3", {}, "Configuration"), factList(leaves(cell.config)),
    h("h3", {}, "Provenance"), factList(leaves(cell.made)),
  ];
}

function compareControls(cell) {
  const picked = state.pick.includes(cell.cell), twoPicked = picked && state.pick.length === 2;
  return h("p", {}, h("button", {
    type: "button", "aria-pressed": String(picked), "data-keep": "compare-this",
    onclick: () => setPicked(cell.cell, !picked),
  }, picked ? "Chosen for comparison" : "Compare"), " ",
  twoPicked && h("a", { class: "button", href: hashWith({ cell: "", compare: true }) }, "Side by side"));
}

function commandBlock(cell) {
  const copyButton = h("button", { type: "button", onclick: () => copy(cell.command, "the command") }, "Copy");
  return [
    h("div", { class: "command" }, h("pre", { tabindex: 0 }, cell.command), copyButton),
    h("p", { class: "note" }, "The command gives the choices by name. Other changed settings are listed under Configuration."),
  ];
}

// Field, kind and heading of each column in the table of trials.
const TRIAL_COLUMNS = [
  ["lr", "rate", "lr"], ["seed", "text", "seed"], ["outcome", "text", "outcome"], ["select", "score", "select %"],
  ["report", "score", "report %"], ["best_epoch", "text", "best epoch"], ["train_seconds", "seconds", "training s"],
  ["eval_seconds", "seconds", "evaluation s"], ["pack", "text", "trained together"],
];

function trialTable(cell) {
  if (!cell.trials.length) return h("p", { class: "quiet" }, "None yet.");
  const rows = cell.trials.map(trial => [
    ...TRIAL_COLUMNS.map(([key, kind]) => formatValue(KINDS[kind], trial[key])),
    String(trial.losses.at(-1) ?? DASH),
    trial.error === null ? DASH : errorEntry(data.pool[trial.error]),
  ]);
  return dataTable([...TRIAL_COLUMNS.map(([, , heading]) => heading), "last loss", "error"], rows, "Trials");
}

function raceTable(cell) {
  const rows = cell.race.map(([lr, lowest, outcome]) => [
    rateText(lr), lowest === null ? DASH : lowest.toFixed(4), lr === cell.lr ? `${outcome}, chosen` : outcome,
  ]);
  return dataTable(["lr", "lowest loss on select", "outcome"], rows, "Race");
}

function errorEntry([type, message, traceback]) {
  const text = [type, message].filter(Boolean).join(": ");
  if (!traceback) return h("span", { class: "error" }, text);
  return h("details", { class: "error" }, h("summary", {}, text), h("pre", {}, traceback));
}

// ---- Comparison page ---------------------------------------------------------------------------------------------

const REACH_UNIT = 1e-5;  // must equal UNIT in stats/critical_values.py
const tests = data.tests.map(({ cells: ids, reach }) =>
  ({ indexes: new Map(ids.map((id, index) => [id, index])), reach }));
const signedPoints = value => `${value < 0 ? "\u2212" : "+"}${percentText(Math.abs(value))}`;
const ratioText = (a, b) => (a && b !== null ? `\u00d7\u00a0${compactText(b / a)}` : DASH);
// Costs measured on different machines have no ratio. Counts and calculated sizes are the same on every machine.
const MACHINE_INDEPENDENT = /_params$|^trainable_percent$|^memory_|^adapter_bytes$|^rates$/;
const isComparable = (a, b, key) => (a.machine === b.machine || MACHINE_INDEPENDENT.test(key))
  && !isDisturbed(a, key) && !isDisturbed(b, key);
const NOT_COSTS = ["rank", "seeds", "report_score", "report_std", "report_low", "report_high", "select_score"];

function differenceText(a, b, key) {
  if (a[key] === null || b[key] === null || a.metric !== b.metric) return DASH;
  return `${signedPoints(b[key] - a[key])} points`;
}

// Return how far two scores must differ to be significant; null unless both cells were tested in one table.
function reachBetween(a, b) {
  const test = tests.find(({ indexes }) => indexes.has(a.cell) && indexes.has(b.cell));
  if (!test?.reach) return null;
  const [first, second] = [a, b].map(cell => test.indexes.get(cell.cell)).sort((x, y) => x - y);
  return test.reach[first][second - first - 1] * REACH_UNIT;
}

// The verdict of the tables and of `compare`. Python ran the test; the page holds its critical differences.
function verdictText(a, b) {
  if (a.table !== b.table || a.report_score === null || b.report_score === null) return "";
  const untuned = [a, b].filter(cell => cell.untuned);
  if (untuned.length) {
    const reasons = untuned.map(cell => `${cell.title} was trained ${cell.untuned}`).join(" and ");
    return `No verdict: ${reasons}, so the difference may come from the learning rates.`
      + ` To tune: ${[...new Set(untuned.map(cell => cell.tune))].join(" && ")}`;
  }
  const reach = reachBetween(a, b), difference = b.report_score - a.report_score;
  if (reach !== null) {
    const conclusion = Math.abs(difference) > reach + 1e-9
      ? "the difference is significant" : "they cannot be distinguished";
    return `95% interval ${signedPoints(difference - reach)} to ${signedPoints(difference + reach)} points: ${conclusion}.`
      + " Interval and verdict hold for all pairs of the table together.";
  }
  if (a.seeds < 2 || b.seeds < 2) return "Not tested: with one seed there is no test between methods.";
  if (tests.some(({ indexes }) => indexes.has(a.cell) && indexes.has(b.cell)))
    return `Interval and verdict: python -m bench.report compare a=${a.cell} b=${b.cell}`;
  return "Not tested: the records hold no right answers.";
}

// Return the entries of both cells, with the better one in bold.
function pairEntries(a, b, column) {
  const known = a[column.key] !== null && b[column.key] !== null && isComparable(a, b, column.key);
  const difference = known ? a[column.key] - b[column.key] : 0;
  const best = difference === 0 ? null : (difference < 0) === (column.better === "low") ? a : b;
  return [a, b].map(cell => (cell === best ? h("strong", {}, entryText(cell, column)) : entryText(cell, column)));
}

function comparePage([a, b]) {
  const costs = numericColumns.filter(column => column.better && !NOT_COSTS.includes(column.key))
    .filter(column => a[column.key] !== null || b[column.key] !== null);
  const curves = [a, b].flatMap((cell, index) => seriesOf(cell).filter(trial => trial.lr === cell.lr)
    .map(trial => ({ ...trial, group: cell.title, dashes: index ? "6 3" : null })));
  return [
    backLink(), pageHeading("Two cells"),
    h("div", { class: "two" }, [a, b].map(cellSummary)),
    comparisonWarnings(a, b).map(text => h("p", { class: "warning" }, text)),
    h("h3", {}, "Scores"),
    dataTable([...cellHeadings(a, b), "difference"], [
      [metricLabel(a), scoreText(a), scoreText(b), differenceText(a, b, "report_score")],
      ["on select %", ...[a, b].map(cell => formatValue(KINDS.score, cell.select_score)),
        differenceText(a, b, "select_score")],
    ], "Scores", "figures"),
    h("p", { id: "verdict" }, verdictText(a, b)),
    [a, b].flatMap(cell => cell.flagged.map(flag => h("p", { class: "warning" }, `${cell.title}: flag ${flag}.`))),
    h("p", { class: "note" }, `Differences are the second cell minus the first.${standardErrorNote(a, b)}`),
    h("h3", {}, "Costs"),
    dataTable([...cellHeadings(a, b), "ratio"], costs.map(column => [column.heading, ...pairEntries(a, b, column),
      isComparable(a, b, column.key) ? ratioText(a[column.key], b[column.key]) : DASH]), "Costs", "figures"),
    h("p", { class: "note" }, "Ratios are the second cell over the first. The better value is bold."),
    h("h3", {}, "Loss"), lossFigure(curves),
    h("h3", {}, "Configuration values that differ"), differencesTable(a, b, "config"),
    h("h3", {}, "Provenance that differs"), differencesTable(a, b, "made"),
  ];
}

const cellHeadings = (a, b) => ["", ...[a, b].map(cell => [cell.title, h("span", { class: "id" }, ` (${cell.cell})`)])];

function cellSummary(cell) {
  return h("p", {}, markIcon(cell.method), h("a", { href: hashWith({ cell: cell.cell, compare: false }) }, cell.title),
    h("br"),
    h("span", { class: "quiet" }, `${cell.model} on ${cell.task}, `, h("code", {}, cell.cell)));
}

function comparisonWarnings(a, b) {
  const tablesDiffer = "These cells belong to different tables (model, data or protocol differ):"
    + " do not compare their scores and costs as if only the method differed.";
  const machinesDiffer = "Their speed and peak memory were measured on different machines, so no ratio is shown.";
  return [
    a.table !== b.table && tablesDiffer,
    a.machine !== b.machine && machinesDiffer,
    a.random !== b.random && "One of them has random weights.",
  ].filter(Boolean);
}

// The spread over seeds does not include the sampling error of the report examples, so state that error too.
function standardErrorNote(a, b) {
  if (!a.examples || a.examples !== b.examples || a.metric !== "accuracy" || a.report_score === null) return "";
  const error = Math.sqrt(a.report_score * (1 - a.report_score) / a.examples);
  return ` With ${integerFormat.format(a.examples)} report examples, one standard error of an accuracy is`
    + ` about ${percentText(error)} points.`;
}

// List the values that differ. product_flops is a measured machine speed: it varies between runs, not between cells.
function differencesTable(a, b, section) {
  const [valuesOfA, valuesOfB] = [leaves(a[section]), leaves(b[section])];
  const names = [...new Set([...valuesOfA.keys(), ...valuesOfB.keys()])]
    .filter(name => valuesOfA.get(name) !== valuesOfB.get(name) && !name.startsWith("product_flops"));
  if (!names.length) return h("p", { class: "quiet" }, "None.");
  const rows = names.map(name => [name, valuesOfA.get(name) ?? DASH, valuesOfB.get(name) ?? DASH]);
  return dataTable(cellHeadings(a, b), rows, "Differences", "differing");
}

// ---- Rendering and events ----------------------------------------------------------------------------------------

let openView = null;  // what is on screen: "" for the overview, or a cell or comparison; null before the first render
let overviewScroll = 0;  // restored on the way back to the overview

function render() {
  const view = state.cell ? `cell ${state.cell}` : state.compare ? `compare ${state.pick}` : "";
  const previousView = openView, viewChanged = previousView !== null && previousView !== view;
  if (viewChanged && previousView === "") overviewScroll = scrollY;
  openView = view;
  $("overview").hidden = view !== "";
  $("page").hidden = view === "";
  keepFocus(view === "" ? showOverview : showPage);
  document.title = view === "" ? data.title : `${$("page-title").textContent} \u00b7 ${data.title}`;
  if (!viewChanged) return;
  if (view !== "") {
    scrollTo(0, 0);
    $("page-title").focus({ preventScroll: true });
  } else {
    scrollTo(0, overviewScroll);
    const linkName = CSS.escape(previousView.replace("cell ", "open-"));
    $("table").querySelector(`[data-keep="${linkName}"]`)?.focus({ preventScroll: true });
  }
}

function showPage() {
  const content = state.cell ? cellPage(state.cell) : comparePage(state.pick.map(id => byId.get(id)));
  $("page").replaceChildren(...content.flat().filter(isPresent));
}

function showOverview() {
  const rows = sortedCells(filteredCells(state), state.sort);
  showFacets();
  showPlot(rows);
  showPicked();
  showTable(rows);
}

function showStaticTexts() {
  const trials = cells.reduce((sum, cell) => sum + cell.trials.length, 0);
  const tables = new Set(cells.map(cell => cell.table)).size;
  $("about").textContent = [plural(cells.length, "cell"), plural(trials, "trial"), plural(tables, "table")].join(", ");
  $("table-note").textContent = [
    "Score: mean \u00b1 standard deviation over n seeds.",
    "Learning rate and checkpoint are chosen on the select part; the report part is shown.",
    "Costs come from the probe: one trial alone, over warm steps.",
    "Cells with random weights have no score.",
    cells.some(cell => cell.elsewhere)
      ? "Speed and peak memory are from one machine per table; cells measured on another machine show none." : "",
    cells.some(cell => cell.contended)
      ? "~: measured under other load, or unsteady; excluded from ratios and fronts." : "",
    ...data.notes,
    tables > 1 ? `Only cells of one table may be compared (column \u201ctable\u201d); this page has ${tables}.` : "",
  ].filter(Boolean).join(" ");
}

function addListeners() {
  $("search").addEventListener("input", event => update({ q: event.target.value, page: 1 }));
  $("clear").addEventListener("click", () => {
    update({ q: "", ...Object.fromEntries(FACETS.map(facet => [facet, []])), page: 1 });
    $("search").focus();
  });
  $("skip").addEventListener("click", event => {
    event.preventDefault();
    ($("overview").hidden ? $("page-title") : $("table")).focus();
  });
  $("by-hand-close").addEventListener("click", () => $("by-hand").close());
  for (const button of document.querySelectorAll("[data-copy]")) button.addEventListener("click", () => {
    const rows = sortedCells(filteredCells(state), state.sort), format = button.dataset.copy;
    copy(FORMATS[format](chosenColumns(), rows), `${plural(rows.length, "row")} as ${format}`);
  });
  document.addEventListener("click", writeUrl, true);  // a link must not add history before the URL is current
  const menus = [...document.querySelectorAll("details.menu")];
  document.addEventListener("click", event => {
    for (const menu of menus) if (!menu.contains(event.target)) menu.open = false;
  });
  document.addEventListener("keydown", event => {
    const menu = menus.find(details => details.open);
    if (event.key !== "Escape" || !menu) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
  addEventListener("hashchange", () => {
    if (hashOf(parseHash(location.hash)) === hashOf(state)) return;
    clearTimeout(urlTimer);
    state = parseHash(location.hash);
    render();
  });
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== width) requestAnimationFrame(render);  // a phone's toolbars change only the height
    width = innerWidth;
  });
}

function initTheme() {
  const stored = name => { try { return localStorage.getItem(name); } catch { return null; } };
  const applyTheme = () => { document.documentElement.dataset.theme = $("theme").value; };
  $("theme").value = ["light", "dark"].includes(stored("peftgrid-theme")) ? stored("peftgrid-theme") : "";
  $("theme").addEventListener("change", () => {
    // Without storage, the choice lasts until the page is closed.
    try { localStorage.setItem("peftgrid-theme", $("theme").value); } catch { /* storage is blocked */ }
    applyTheme();
  });
  applyTheme();
}

// Reload when the served page changes. Only serve.py adds the version, so a page opened from disk never polls.
function reloadOnChange() {
  const served = document.querySelector('meta[name="served"]')?.content;
  if (served) setInterval(async () => {
    if (document.hidden) return;
    const answer = await fetch("/version", { cache: "no-store" }).catch(() => null);
    if (!answer?.ok || (await answer.text()) === served) return;
    writeUrl();
    location.reload();
  }, 2000);
}

buildFacets();
buildColumns();
buildAxes();
showStaticTexts();
initTheme();
addListeners();
state = parseHash(location.hash);
render();
reloadOnChange();
})();
