/** The fan chart of one forecast: what was observed, bands, median, and actuals; with a readout that follows it. */

import { byId, h } from "./dom.js";
import { BANDS, inside, interpolation, quantileAt } from "./quantiles.js";
import { Chart, axes, colour } from "./chart.js";
import { axisTimes, moment, number } from "./words.js";

const PAST = 2.5; // horizons of history that are drawn
const NARROW = 700; // pixels, below which there are fewer
const seconds = (iso) => new Date(iso).getTime() / 1000;

/** How far back, in milliseconds, the history of a forecast is read. */
export function pastOf(forecast) {
  const last = forecast.steps[forecast.steps.length - 1];
  return Math.max(1, new Date(last.target_time) - new Date(forecast.origin)) * (innerWidth < NARROW ? PAST / 2 : PAST);
}

/** Draws `show({forecast, points})`; a forecast may be null, then there is only history. */
export class Fan {
  constructor() {
    this.element = byId("fan");
    this.readout = byId("readout");
    this.said = byId("fan-said");
    this.shown = null;
    this.range = null;
    this.chart = new Chart(
      this.element,
      () => (innerWidth < NARROW ? 280 : 380),
      () => this.build(),
    );
    this.element.addEventListener("keydown", (event) => this.key(event));
    this.element.addEventListener("blur", () => this.chart.point(-1));
  }

  /** `steady` keeps the scale of values while a forecast after the other is replayed. */
  show({ forecast, points, steady = false }) {
    const model = merge(forecast, points);
    this.range = extent(model, steady ? this.range : null);
    this.shown = { forecast, ...model };
    this.element.setAttribute("aria-label", describe(forecast, model));
    this.chart.draw();
    this.read(null);
  }

  /** An actual that has just arrived: {at, value}; true when the chart has a place for it. */
  arrive({ at, value }) {
    if (!this.shown) return false;
    const points = [...this.shown.points.filter((point) => point.at !== at), { at, value }];
    points.sort((a, b) => seconds(a.at) - seconds(b.at));
    this.show({ forecast: this.shown.forecast, points, steady: true });
    const ring = h("span", { class: "arrived", "aria-hidden": "true" });
    const { plot } = this.chart;
    if (plot && value !== null) {
      ring.style.left = `${plot.valToPos(seconds(at), "x")}px`;
      ring.style.top = `${plot.valToPos(value, "y")}px`;
      plot.over.append(ring);
      setTimeout(() => ring.remove(), 1600);
    }
    return true;
  }

  build() {
    if (!this.shown || !this.shown.times.length) return null;
    const { forecast, times, observed, actual, bands, median } = this.shown;
    const accent = colour("--accent");
    const edge = { stroke: "transparent", width: 0, points: { show: false } };
    const crowded = times.length > 400;
    const dots = { show: !crowded, size: 4.5, width: 0, fill: colour("--actual"), stroke: colour("--actual") };
    const series = [
      {},
      { stroke: colour("--observed"), width: 1.4, points: { show: false } },
      ...bands.flatMap(() => [edge, edge]),
      { stroke: accent, width: 2, points: { show: false } },
      { stroke: colour("--actual"), width: 1.6, points: dots },
    ];
    const options = {
      series,
      bands: bands.map((band, index) => ({ series: [2 + 2 * index, 3 + 2 * index], fill: colour(band.colour) })),
      axes: axes({ valuesX: (_, splits) => axisTimes(splits), valuesY: (_, ticks) => ticks.map(shortNumber) }),
      scales: { y: { range: () => this.range } },
      padding: [10, 24, 0, 0],
      cursor: { y: false, points: { show: false }, drag: { x: true, y: false } },
      hooks: {
        setCursor: [(plot) => this.read(plot.cursor.idx ?? null)],
        drawClear: [(plot) => forecast && shadeFuture(plot, seconds(forecast.origin))],
        draw: [(plot) => forecast && markOrigin(plot, seconds(forecast.origin))],
      },
    };
    const data = [times, observed, ...bands.flatMap((band) => [band.high, band.low]), median, actual];
    return { options, data };
  }

  /** Fill the readout, which is the legend as well: of the point `index`, or only names. */
  read(index) {
    const { forecast, times, known } = this.shown ?? {};
    if (!times) return;
    const time = index === null ? null : times[index];
    const step = time === null ? null : (forecast?.steps.find((each) => seconds(each.target_time) === time) ?? null);
    const value = time === null ? undefined : known.get(time);
    const past = forecast && time !== null && time <= seconds(forecast.origin);
    const rows = [];
    const touch = matchMedia("(hover: none)").matches;
    if (time === null)
      rows.push(["when", touch ? "Tap the chart" : "Point at the chart", touch ? "" : "or use the arrow keys"]);
    else rows.push(["when", `${moment(time * 1000)} UTC`, step ? `step ${step.step} of ${forecast.steps.length}` : ""]);
    rows.push(["observed", "observed", time !== null && (past || !forecast) ? number(value) : ""]);
    if (forecast) {
      rows.push(["median", "median", step ? number(quantileAt(forecast.quantile_levels, step.quantiles, 0.5)) : ""]);
      for (const band of [...BANDS].reverse()) {
        const [low, high] = [band.low, band.high].map(
          (level) => step && quantileAt(forecast.quantile_levels, step.quantiles, level),
        );
        const note = interpolation(forecast.quantile_levels, band);
        rows.push([
          `band-${parseInt(band.name, 10)}`,
          band.name,
          step ? `${number(low)} to ${number(high)}` : "",
          note,
        ]);
      }
      const verdict =
        step && Number.isFinite(value) ? `, ${inside(forecast.quantile_levels, step.quantiles, value)}` : "";
      rows.push(["actual", "actual", step ? (Number.isFinite(value) ? `${number(value)}${verdict}` : "not yet") : ""]);
    }
    this.readout.replaceChildren(
      ...rows.map(([name, term, words, note]) =>
        h(
          "div",
          { class: `key ${name}`, title: note },
          h("dt", {}, h("i", { class: "swatch", "aria-hidden": "true" }), term),
          h("dd", {}, words),
        ),
      ),
    );
    this.spoken = rows.filter(([, , words]) => words).map(([name, term, words]) => `${term} ${words}`);
  }

  key(event) {
    const { plot } = this.chart;
    if (!plot || !this.shown) return;
    const last = this.shown.times.length - 1;
    const origin = this.shown.forecast ? this.shown.times.indexOf(seconds(this.shown.forecast.origin)) : last;
    const at = plot.cursor.idx ?? origin;
    const places = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: last, PageUp: at - 12, PageDown: at + 12 };
    if (event.key === "Escape") {
      this.chart.point(-1);
      return;
    }
    if (!(event.key in places)) return;
    event.preventDefault();
    this.chart.point(Math.min(last, Math.max(0, places[event.key])));
    this.said.textContent = this.spoken.join("; ");
  }
}

/** Columns over the times of history and targets, null where there is nothing. */
function merge(forecast, points) {
  const known = new Map(points.map((point) => [seconds(point.at), point.value]));
  const steps = new Map((forecast?.steps ?? []).map((step) => [seconds(step.target_time), step]));
  for (const [time, step] of steps) if (step.actual !== null && !known.has(time)) known.set(time, step.actual);
  const times = [...new Set([...known.keys(), ...steps.keys()])].sort((a, b) => a - b);
  const origin = forecast ? seconds(forecast.origin) : Infinity;
  const filled = withGaps(times);
  const matured = times.some((time) => time > origin && Number.isFinite(known.get(time))); // its line begins at the origin
  const levels = forecast?.quantile_levels ?? [];
  const edge = (level) =>
    filled.map((time) => (steps.has(time) ? quantileAt(levels, steps.get(time).quantiles, level) : null));
  return {
    points,
    known,
    times: filled,
    observed: filled.map((time) => (time <= origin ? (known.get(time) ?? null) : null)),
    actual: filled.map((time) => (time > origin || (matured && time === origin) ? (known.get(time) ?? null) : null)),
    median: edge(0.5),
    bands: forecast ? BANDS.map((band) => ({ ...band, high: edge(band.high), low: edge(band.low) })) : [],
  };
}

/** The times with one more in every hole, so that a line breaks where steps are missing. */
function withGaps(times) {
  const lengths = times.slice(1).map((time, index) => time - times[index]);
  const step = [...lengths].sort((a, b) => a - b)[Math.floor(lengths.length / 2)];
  return times.flatMap((time, index) =>
    index && time - times[index - 1] > 2.5 * step ? [times[index - 1] + step, time] : [time],
  );
}

/** Lowest and highest value that are drawn, with room; never narrower than `before`. */
function extent(model, before) {
  const values = [model.observed, model.actual, ...model.bands.flatMap((band) => [band.high, band.low])].flat();
  const present = values.filter((value) => Number.isFinite(value));
  if (!present.length) return before ?? [0, 1];
  const low = present.reduce((a, b) => Math.min(a, b));
  const high = present.reduce((a, b) => Math.max(a, b));
  const room = (high - low || Math.abs(high) || 1) * 0.06;
  const found = [low - room, high + room];
  return before ? [Math.min(before[0], low), Math.max(before[1], high)] : found;
}

function shadeFuture(plot, origin) {
  const { left, top, width, height } = plot.bbox;
  const from = Math.min(left + width, Math.max(left, plot.valToPos(origin, "x", true)));
  plot.ctx.save();
  plot.ctx.fillStyle = colour("--future");
  plot.ctx.fillRect(from, top, left + width - from, height);
  plot.ctx.restore();
}

function markOrigin(plot, origin) {
  const { left, top, width, height } = plot.bbox;
  const at = Math.round(plot.valToPos(origin, "x", true));
  if (at < left || at > left + width) return;
  const { ctx } = plot;
  ctx.save();
  ctx.strokeStyle = colour("--soft");
  ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
  ctx.beginPath();
  ctx.moveTo(at + 0.5, top);
  ctx.lineTo(at + 0.5, top + height);
  ctx.stroke();
  ctx.fillStyle = colour("--soft");
  ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
  ctx.textAlign = "right";
  ctx.textBaseline = "top";
  ctx.fillText("origin", at - 6 * devicePixelRatio, top + 2 * devicePixelRatio);
  ctx.restore();
}

function describe(forecast, { points }) {
  if (!forecast) return `Chart of ${points.length} observed values, without a forecast`;
  const matured = forecast.steps.filter((step) => step.actual !== null);
  const held = matured.filter((step) => inside(forecast.quantile_levels, step.quantiles, step.actual) !== "outside 95 %");
  const actuals = matured.length === 1 ? "1 actual" : `${matured.length} actuals`;
  const words = matured.length ? `${actuals}, ${held.length} of them inside the 95 % band` : "no actuals yet";
  return `Fan chart of ${forecast.series}: ${forecast.steps.length} steps from ${moment(forecast.origin)} UTC; ${words}`;
}

function shortNumber(value) {
  const size = Math.abs(value);
  if (size >= 1e9) return `${+(value / 1e9).toPrecision(4)} G`;
  if (size >= 1e6) return `${+(value / 1e6).toPrecision(4)} M`;
  if (size >= 1e4) return `${+(value / 1e3).toPrecision(4)} k`;
  return String(+value.toPrecision(6));
}
