/** Elements made by code. Text only ever becomes text nodes: nothing that comes from the API is parsed as markup. */

const SVG = "http://www.w3.org/2000/svg";

/** Make an element: attributes by name, `on` for listeners, then children (elements, texts; null is left out). */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, { on = {}, ...attributes }, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, String(value));
  }
  for (const [name, listener] of Object.entries(on)) element.addEventListener(name, listener);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function byId(id) {
  return document.getElementById(id);
}

/**
 * A table in a region that scrolls by itself. `columns`: {title, cell(row), kind: "text" | "number" | "words"}.
 *
 * One with words is shown row by row on a phone; the roles keep it a table there, which `display` would take away.
 */
export function table(label, columns, rows, { rowClass = () => null } = {}) {
  const wordy = columns.some((column) => column.kind === "words");
  const head = columns.map((column) =>
    h("th", { scope: "col", role: "columnheader", class: column.kind ?? "text" }, column.title),
  );
  const cell = (column, row) =>
    h("td", { role: "cell", class: column.kind ?? "text", "data-title": column.title }, column.cell(row));
  const body = rows.map((row) =>
    h(
      "tr",
      { role: "row", class: rowClass(row) },
      columns.map((column) => cell(column, row)),
    ),
  );
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
    h(
      "table",
      { role: "table", class: wordy && "wordy" },
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, head)),
      h("tbody", { role: "rowgroup" }, body),
    ),
  );
}

const KEPT = "button, select, input, a, summary, .scroll";

/** Put new children into `element`, and keep the focus, what was unfolded, and how far its tables were scrolled. */
export function renew(element, ...children) {
  const find = (selector) => [...element.querySelectorAll(selector)];
  const focused = find(KEPT).indexOf(document.activeElement);
  const unfolded = find("details").map((details) => details.open);
  const scrolled = find(".scroll").map((region) => [region.scrollLeft, region.scrollTop]);
  element.replaceChildren(...children.flat().filter(Boolean));
  find("details").forEach((details, index) => (details.open = Boolean(unfolded[index])));
  find(".scroll").forEach((region, index) => region.scrollTo(...(scrolled[index] ?? [0, 0])));
  if (focused >= 0) find(KEPT)[focused]?.focus({ preventScroll: true });
}

/** Tell whether `key` says something else than the last time for this element; saves drawing what did not change. */
export function changed(element, key) {
  const text = JSON.stringify(key);
  if (element.dataset.shown === text) return false;
  element.dataset.shown = text;
  return true;
}

/** A row of buttons of which one is chosen. */
export function choice(label, options, chosen, choose) {
  const buttons = options.map(([value, words]) =>
    h(
      "button",
      { type: "button", "aria-pressed": String(value === chosen), on: { click: () => choose(value) } },
      words,
    ),
  );
  return h("div", { class: "choice", role: "group", "aria-label": label }, buttons);
}
