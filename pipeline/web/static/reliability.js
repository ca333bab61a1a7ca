/** The reliability plot: whether the quantiles of matured forecasts held what they say. */

import { Chart, axes } from "./chart.js";
import { byId, changed, h, renew, table } from "./dom.js";
import { dress, idealLine, mark, stroke } from "./lines.js";
import { days as inDays, modelName, percent } from "./words.js";

/** Reliability: the share of actuals at or below each quantile, against the level that it claims. */
export class Reliability {
  constructor() {
    this.plot = h("div", { class: "chart square", role: "img", hidden: true });
    this.rest = h("div", {});
    byId("reliability-body").append(this.plot, this.rest);
    this.chart = new Chart(
      this.plot,
      () => 290,
      () => this.build(),
    );
  }

  show({ items, champion, days, names }) {
    if (!changed(this.rest, [items, champion, days])) return;
    const versions = [...new Set(items.map((item) => item.model_version))];
    this.lines = dress(versions, champion);
    this.items = items;
    this.plot.hidden = !items.length;
    if (!items.length) {
      renew(this.rest, h("p", { class: "empty" }, `No forecast of the last ${inDays(days)} has met its actuals yet.`));
      this.chart.draw();
      return;
    }
    const name = (line) => modelName(line.version, names.get(line.version));
    const levels = [...new Set(items.map((item) => item.level))].sort((a, b) => a - b);
    const find = (version, level) =>
      items.find((item) => item.model_version === version && Math.abs(item.level - level) < 1e-9);
    Object.assign(this, { levels, find });
    const columns = [
      { title: "Quantile", kind: "number", cell: (level) => String(level) },
      ...this.lines.map((line) => ({
        title: name(line),
        kind: "number",
        cell: (level) => percent(find(line.version, level)?.observed),
      })),
    ];
    renew(
      this.rest,
      h(
        "ul",
        { class: "legend" },
        this.lines.map((line) => h("li", {}, mark(line), name(line))),
      ),
      h(
        "p",
        { class: "note" },
        "Share of actuals at or below each quantile. On the diagonal a quantile holds what it says.",
      ),
      h(
        "details",
        { class: "table-of" },
        h("summary", {}, "Reliability as a table"),
        table("Reliability by quantile", columns, levels),
      ),
    );
    this.plot.setAttribute(
      "aria-label",
      `Reliability of ${this.lines.map(name).join(", ")}; the same numbers are in the table below`,
    );
    this.chart.draw();
  }

  build() {
    if (!this.items?.length) return null;
    const places = [0, ...this.levels, 1];
    const lines = this.lines.map((line) => [
      null,
      ...this.levels.map((level) => this.find(line.version, level)?.observed ?? null),
      null,
    ]);
    const shares = (_, ticks) => ticks.map((tick) => `${Math.round(tick * 100)} %`);
    const scale = { time: false, range: () => [0, 1] };
    return {
      options: {
        series: [{}, idealLine(), ...this.lines.map((line) => stroke(line))],
        axes: axes({
          time: false,
          valuesX: shares,
          valuesY: shares,
          labelX: "quantile level",
          labelY: "observed at or below",
        }),
        scales: { x: scale, y: scale },
        padding: [10, 22, 0, 0],
        cursor: { show: false },
      },
      data: [places, places, ...lines],
    };
  }
}
