/** Models and promotions: who reigned when, as a time line, and the verdicts in words. */

import { byId, changed, h, renew, svg, table } from "./dom.js";
import { day, moment, modelName, percent, score } from "./words.js";

const TALL = 74;
const EDGE = 12;
const SHOWN = 8; // rows before "show all"

export class Models {
  constructor() {
    this.body = byId("models-body");
    this.all = false;
    new ResizeObserver(() => this.timeline && this.place()).observe(this.body);
    document.documentElement.addEventListener("theme", () => this.timeline && this.place());
  }

  show({ models, promotions, awaited, now }) {
    if (!changed(this.body, [models, promotions, awaited, this.all])) return;
    Object.assign(this, { models, promotions, awaited, now });
    const next = awaited.length ? h("p", { class: "note" }, `Next, ${awaited.join("; ")}.`) : null;
    if (!models.length) {
      renew(
        this.body,
        h(
          "p",
          { class: "empty" },
          "No model yet. Until the first retraining, seasonal naive makes the forecasts: tidecast job run retrain.",
        ),
        next,
      );
      this.timeline = null;
      return;
    }
    const names = new Map(models.map((model) => [model.version, model.name]));
    this.timeline = h("div", { class: "timeline" });
    const columns = [
      {
        title: "Model",
        cell: (model) => [
          modelName(model.version, model.name),
          ...model.aliases.map((alias) =>
            h("span", { class: `tag after ${alias === "champion" ? "ok" : "none"}` }, alias),
          ),
        ],
      },
      { title: "Made (UTC)", cell: (model) => (model.version === 0 ? "–" : moment(model.created_at)) },
      {
        title: "Trained on",
        cell: (model) => (model.train_to ? `${day(model.train_from)} to ${day(model.train_to)}` : "–"),
      },
      { title: "MASE", kind: "number", cell: (model) => score(model.mase) },
      { title: "WQL", kind: "number", cell: (model) => score(model.wql) },
      { title: "80 %", kind: "number", cell: (model) => percent(model.coverage_80) },
      { title: "Verdict", kind: "words", cell: (model) => model.verdict ?? "–" },
    ];
    const changes = [
      { title: "When (UTC)", cell: (change) => moment(change.changed_at, { seconds: true }) },
      { title: "What", cell: (change) => inWords(change, names) },
      { title: "Why", kind: "words", cell: (change) => change.reason },
    ];
    const rows = this.all ? models : models.slice(0, SHOWN);
    const more =
      models.length > SHOWN &&
      h(
        "button",
        { type: "button", class: "quiet", on: { click: () => this.toggle() } },
        this.all ? "Show the newest" : `Show all ${models.length}`,
      );
    renew(
      this.body,
      this.timeline,
      next,
      table("Models with their backtest and verdict", columns, rows, {
        rowClass: (model) => (model.aliases.includes("champion") ? "now" : null),
      }),
      more || null,
      h("h3", {}, "Promotions and rollbacks"),
      promotions.length
        ? table("Promotions and rollbacks", changes, promotions)
        : h("p", { class: "empty" }, "None yet."),
    );
    this.place();
  }

  toggle() {
    this.all = !this.all;
    this.show(this);
  }

  /** Draw the time line to the width there is: bars for reigns, marks for models as they were made. */
  place() {
    const width = this.timeline.clientWidth;
    if (!width) return;
    const spans = reigns(this.promotions, this.now);
    const made = this.models
      .filter((model) => model.version !== 0)
      .map((model) => [new Date(model.created_at).getTime(), model]);
    const times = [...made.map(([time]) => time), ...spans.map((span) => span.from)];
    if (!times.length) {
      this.timeline.replaceChildren();
      return;
    }
    const first = Math.min(...times);
    const length = Math.max(1, this.now - first);
    const x = (time) => EDGE + ((time - first) / length) * (width - 2 * EDGE);
    const bars = spans.map((span) => {
      const [from, to] = [x(span.from), x(span.to)];
      const label =
        to - from > 30 ? svg("text", { x: from + 6, y: 25, class: "reign-name" }, `v${span.version}`) : null;
      return svg(
        "g",
        {},
        svg("rect", {
          x: from,
          y: 10,
          width: Math.max(2, to - from - 1),
          height: 22,
          rx: 3,
          class: span.to === this.now ? "reign now" : "reign",
        }),
        label,
      );
    });
    const marks = made.map(([time, model]) =>
      svg("circle", { cx: x(time), cy: 46, r: 4, class: model.aliases.includes("champion") ? "made now" : "made" }),
    );
    const ends = [
      svg("text", { x: EDGE, y: 68, class: "tick" }, moment(first)),
      svg("text", { x: width - EDGE, y: 68, class: "tick end" }, "now"),
    ];
    const words = spans.map((span) => `version ${span.version} from ${moment(span.from)} UTC`).join("; ");
    this.timeline.replaceChildren(
      svg(
        "svg",
        {
          width,
          height: TALL,
          role: "img",
          "aria-label": `Champions over time: ${words || "none yet"}. ${made.length} models were made.`,
        },
        bars,
        marks,
        ends,
      ),
      h(
        "ul",
        { class: "legend" },
        h("li", {}, h("i", { class: "swatch block", "aria-hidden": "true" }), "champion"),
        h("li", {}, h("i", { class: "swatch round", "aria-hidden": "true" }), "a model was made"),
      ),
    );
  }
}

/** Who was champion from when to when, oldest first; times in milliseconds. */
export function reigns(promotions, now) {
  const changes = promotions
    .filter((change) => change.alias === "champion")
    .map((change) => ({ version: change.version, from: new Date(change.changed_at).getTime() }));
  changes.sort((a, b) => a.from - b.from);
  return changes.map((change, index) => ({ ...change, to: changes[index + 1]?.from ?? now }));
}

function inWords(change, names) {
  const name = modelName(change.version, names.get(change.version));
  const before =
    change.previous === null || change.previous === undefined ? "" : ` after ${modelName(change.previous, null)}`;
  const verbs = {
    promote: `became ${change.alias}`,
    rollback: `is ${change.alias} again`,
    drop: `is no longer ${change.alias}`,
  };
  return `${name} ${verbs[change.action] ?? change.action}${before}`;
}
