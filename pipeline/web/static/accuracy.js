/** Live accuracy by horizon: what matured forecasts were worth, per model. */

import { Chart, axes } from "./chart.js";
import { byId, changed, choice, h, renew, table } from "./dom.js";
import { dress, idealLine, mark, stroke } from "./lines.js";
import { count, day as inDay, days as inDays, modelName, percent, score } from "./words.js";

const METRICS = {
  mase: {
    name: "MASE",
    cell: score,
    better: "lower is better; 1 is the error of one season ago in the history",
    ideal: null,
  },
  skill: {
    name: "Skill",
    cell: (value) => percent(value),
    better: "share of seasonal naive's error that is saved; 0 is as good as it",
    ideal: 0,
  },
  wql: { name: "WQL", cell: score, better: "weighted quantile loss; lower is better", ideal: null },
  coverage_80: {
    name: "80 % coverage",
    cell: (value) => percent(value),
    better: "share of actuals inside the 80 % band; 80 % is right",
    ideal: 0.8,
  },
  coverage_95: {
    name: "95 % coverage",
    cell: (value) => percent(value),
    better: "share of actuals inside the 95 % band; 95 % is right",
    ideal: 0.95,
  },
};

/** Accuracy: a metric over the buckets of the horizon, one line and one row per model. */
export class Accuracy {
  constructor({ choose }) {
    this.choose = choose;
    this.plot = h("div", { class: "chart", role: "img", hidden: true });
    this.rest = h("div", {});
    byId("accuracy-body").append(this.plot, this.rest);
    this.chart = new Chart(
      this.plot,
      () => 210,
      () => this.build(),
    );
  }

  show({ found, champion, days, metric, scope, series }) {
    const { items } = found;
    const chosen = METRICS[metric] ? metric : "mase";
    if (!changed(this.rest, [found, champion, days, chosen, scope, series])) return;
    this.controls({ days, metric: chosen, scope, series });
    const versions = [...new Set(items.map((item) => item.model_version))];
    const buckets = [...new Map(items.map((item) => [item.horizon_from, item.horizon_to])).entries()].sort(
      (a, b) => a[0] - b[0],
    );
    const find = (version, from) => items.find((item) => item.model_version === version && item.horizon_from === from);
    Object.assign(this, {
      metric: METRICS[chosen],
      key: chosen,
      buckets,
      find,
      lines: dress(versions, champion),
      items,
    });
    this.plot.hidden = !items.length;
    if (!items.length) {
      renew(this.rest, h("p", { class: "empty" }, nothing(scope, series, days)));
      this.chart.draw();
      return;
    }
    const name = (line) => modelName(line.version, items.find((item) => item.model_version === line.version).model);
    const columns = [
      {
        title: "Model",
        cell: (line) => [
          mark(line),
          name(line),
          line.version === champion ? h("span", { class: "tag ok after" }, "champion") : null,
        ],
      },
      ...buckets.map(([from, to]) => ({
        title: bucket(from, to),
        kind: "number",
        cell: (line) => this.metric.cell(find(line.version, from)?.[chosen]),
      })),
      { title: "Steps", kind: "number", cell: (line) => count(sum(items, line.version)) },
    ];
    renew(
      this.rest,
      h(
        "p",
        { class: "note" },
        `${this.metric.name}: ${this.metric.better}. Targets of ${inDay(found.first_day)} to ${inDay(found.last_day)}.`,
      ),
      table(`${this.metric.name} by model and horizon`, columns, this.lines),
    );
    this.plot.setAttribute(
      "aria-label",
      `${this.metric.name} by horizon for ${this.lines.map(name).join(", ")}; the same numbers are in the table below`,
    );
    this.chart.draw();
  }

  controls({ days, metric, scope, series }) {
    const options = Object.entries(METRICS).map(([key, { name }]) =>
      h("option", { value: key, selected: key === metric }, name),
    );
    const select = h(
      "select",
      { "aria-label": "Metric", on: { change: (event) => this.choose({ metric: event.target.value }) } },
      options,
    );
    const scopes = [
      ["all", "All series"],
      ["one", "This series"],
    ];
    renew(
      byId("accuracy-controls"),
      select,
      series ? choice("Which series", scopes, scope, (value) => this.choose({ scope: value })) : "",
      choice(
        "Days",
        [
          [1, "1 d"],
          [7, "7 d"],
          [28, "28 d"],
        ],
        days,
        (value) => this.choose({ days: value }),
      ),
    );
  }

  build() {
    if (!this.items?.length) return null;
    const places = this.buckets.map((_, index) => index);
    const lines = this.lines.map((line) =>
      this.buckets.map(([from]) => this.find(line.version, from)?.[this.key] ?? null),
    );
    const { ideal } = this.metric;
    const series = [{}, ...this.lines.map((line) => stroke(line)), ...(ideal === null ? [] : [idealLine()])];
    const data = [places, ...lines, ...(ideal === null ? [] : [places.map(() => ideal)])];
    const shares = this.key !== "mase" && this.key !== "wql";
    return {
      options: {
        series,
        axes: axes({
          time: false,
          splitsX: () => places,
          valuesX: (_, splits) => splits.map((index) => (this.buckets[index] ? bucket(...this.buckets[index]) : "")),
          valuesY: (_, ticks) =>
            ticks.map((tick) => (shares ? `${Math.round(tick * 100)} %` : String(+tick.toFixed(4)))),
        }),
        scales: {
          x: { time: false, range: () => [-0.3, places.length - 0.7] },
          y: { range: (_, low, high) => room(low, high, this.key) },
        },
        padding: [10, 12, 0, 0],
        cursor: { show: false },
      },
      data,
    };
  }
}

function bucket(from, to) {
  if (to === null || to === undefined) return `${from}+`;
  return from === to ? String(from) : `${from}–${to}`;
}

function room(low, high, metric) {
  if (metric.startsWith("coverage")) return [Math.max(0, Math.min(low ?? 0.5, 0.7) - 0.05), 1];
  const top = Math.max(high ?? 1, metric === "skill" ? 0.1 : 0);
  return [Math.min(0, low ?? 0), top * 1.12 || 1];
}

function sum(items, version) {
  return items.filter((item) => item.model_version === version).reduce((total, item) => total + item.n, 0);
}

function nothing(scope, series, days) {
  const which = scope === "one" && series ? "of this series " : "";
  return `No forecast ${which}of the last ${inDays(days)} has met its actuals yet, or the job monitor has not run since.`;
}
