/** The forecast of one series: what is shown, from which origin, how good its input was, and what arrives while it is open. */

import { read } from "./api.js";
import { byId, h, table } from "./dom.js";
import { Fan, pastOf } from "./fan.js";
import { interpolation, inside, quantileAt, BANDS } from "./quantiles.js";
import { Replay } from "./replay.js";
import { ago, modelName, moment, number, quality } from "./words.js";

const KEPT = 64; // past forecasts kept in memory: replaying them again asks nobody

export class ForecastView {
  constructor({ choose, ask }) {
    this.fan = new Fan();
    this.replay = new Replay({ choose, ask });
    this.past = new Map();
    this.title = byId("forecast-title");
    this.message = byId("forecast-message");
    this.asking = null;
    byId("steps").addEventListener("toggle", () => this.drawTable());
  }

  /** Show another series. */
  async open(state, status) {
    this.series = state.series ?? null;
    this.unknown = false;
    this.past.clear();
    this.shown = null;
    this.updated = null;
    this.title.textContent = this.series ?? "Forecast";
    if (!this.series) {
      this.tell(...empty(status));
      byId("forecast-facts").replaceChildren();
      return;
    }
    await Promise.all([this.show(state), this.replay.load(this.series, state.origin ?? null)]);
  }

  /** Show the forecast that the state names: an origin, one as of a time, or the newest. */
  async show(state) {
    const { series } = this;
    this.state = state;
    this.asking?.abort();
    const asking = new AbortController();
    this.asking = asking;
    const { signal } = asking;
    try {
      const found = await this.find(state, signal);
      if (series !== this.series || signal.aborted) return;
      this.tell(null);
      this.draw(found, { steady: Boolean(state.origin) });
    } catch (error) {
      if (error.name === "AbortError" || series !== this.series) return;
      await this.explain(error, state, signal);
    }
  }

  async find({ origin, as_of: asOf }, signal) {
    const { series } = this;
    const key = origin && `${series} ${origin}`;
    if (key && this.past.has(key)) return this.past.get(key);
    const forecast = await read("api/forecast", { series, origin, as_of: asOf }, { signal });
    const points = await this.history(forecast, signal);
    const found = { forecast, points };
    if (key && forecast.steps.every((step) => step.actual !== null)) {
      this.past.set(key, found);
      if (this.past.size > KEPT) this.past.delete(this.past.keys().next().value);
    }
    return found;
  }

  async history(forecast, signal) {
    const last = forecast.steps[forecast.steps.length - 1].target_time;
    const from = new Date(new Date(forecast.origin).getTime() - pastOf(forecast)).toISOString();
    const to = new Date(new Date(last).getTime() + 1000).toISOString(); // the last target as well
    const { points } = await read("api/history", { series: this.series, from, to, limit: 1000 }, { signal });
    return points;
  }

  draw({ forecast, points }, { steady = false } = {}) {
    this.shown = { forecast, points };
    byId("forecast-body").hidden = false;
    this.fan.show({ forecast, points, steady });
    if (forecast) this.replay.show(this.state.origin || this.state.as_of ? forecast.origin : null);
    this.drawFacts();
    this.drawTable();
    this.updated = Date.now();
    this.tick(Date.now());
  }

  drawFacts() {
    const { forecast } = this.shown;
    if (!forecast) {
      byId("forecast-facts").replaceChildren(h("span", {}, "no forecast yet"));
      return;
    }
    const state = quality(forecast.quality);
    const note = interpolation(forecast.quantile_levels, BANDS[2]);
    const facts = [
      h("span", { class: `tag ${state.level}`, title: state.meaning }, `quality ${state.words}`),
      state.level === "ok" ? null : h("span", {}, state.meaning),
      h("span", {}, modelName(forecast.model_version, forecast.model)),
      forecast.calibration ? h("span", {}, `calibration ${forecast.calibration}`) : null,
      h("span", {}, `origin ${moment(forecast.origin)}`),
      h("span", {}, `issued ${moment(forecast.issued_at, { seconds: true })} UTC`),
    ];
    byId("forecast-facts").replaceChildren(...facts.filter(Boolean).flatMap((fact) => [fact, " "]));
    byId("fan-note").textContent = note ?? "";
  }

  drawTable() {
    const { forecast } = this.shown ?? {};
    if (!byId("steps").open || !forecast) return;
    const levels = forecast.quantile_levels;
    const columns = [
      { title: "Step", kind: "number", cell: (step) => step.step },
      { title: "Target time (UTC)", cell: (step) => moment(step.target_time) },
      ...[0.025, 0.1, 0.5, 0.9, 0.975].map((level) => ({
        title: level === 0.5 ? "median" : `q ${level}`,
        kind: "number",
        cell: (step) => number(quantileAt(levels, step.quantiles, level)),
      })),
      { title: "Actual", kind: "number", cell: (step) => (step.actual === null ? "not yet" : number(step.actual)) },
      { title: "Where", cell: (step) => (step.actual === null ? "" : inside(levels, step.quantiles, step.actual)) },
    ];
    byId("steps-table").replaceChildren(table("Steps of the forecast", columns, forecast.steps).firstElementChild);
  }

  /** An event of the stream: an actual or a new forecast of this series. */
  async arrive(name, told) {
    if (!this.shown) {
      if (this.series) await this.show(this.state);
      return;
    }
    const { forecast, points } = this.shown;
    if (name === "forecast") {
      this.replay.arrive(told.origin);
      if (this.state.origin || this.state.as_of || (forecast && isSame(forecast, told))) return;
      await this.show(this.state);
    } else {
      if (points.some((point) => sameTime(point.at, told.at) && point.value === told.value)) return; // a stream begins with the newest
      for (const step of forecast?.steps ?? []) if (sameTime(step.target_time, told.at)) step.actual = told.value;
      const last = forecast?.steps[forecast.steps.length - 1].target_time;
      if (!last || new Date(told.at) <= new Date(last)) {
        this.fan.arrive(told);
        this.shown.points = this.fan.shown.points;
      }
      this.drawTable();
    }
    this.updated = Date.now();
    this.tick(this.updated);
  }

  /** The connection was lost and is back: what arrived in between is read. */
  async catchUp() {
    this.past.clear();
    if (this.series)
      await Promise.all([this.show(this.state), this.replay.load(this.series, this.state.origin ?? null)]);
  }

  tick(now) {
    if (!this.shown) {
      byId("fresh").textContent = "";
      return;
    }
    const newest = this.shown.points.filter((point) => point.value !== null).at(-1);
    const words = newest ? `last value ${moment(newest.at)} UTC` : "no value yet";
    byId("fresh").textContent = `${words} · updated ${ago(this.updated, now)}`;
  }

  async explain(error, state, signal) {
    if (error.away) {
      if (!this.shown)
        this.tell("The forecast cannot be read now.", `${error.message}. The page tries again by itself.`);
      return;
    }
    if (error.busy) {
      if (!this.shown)
        this.tell("The forecast cannot be read now.", `${error.message}. The page tries again by itself.`);
      setTimeout(() => state === this.state && this.show(state), error.retryAfter * 1000);
      return;
    }
    const unknown = error.code === "unknown_series";
    this.unknown = unknown;
    if (!unknown && !state.origin && !state.as_of) {
      const { points } = await read("api/history", { series: this.series, limit: 500 }, { signal }).catch(() => ({
        points: [],
      }));
      if (points.length) this.draw({ forecast: null, points });
      this.tell("This series has no forecast yet.", error.hint ?? error.message, points.length > 0);
      return;
    }
    this.shown = null;
    byId("forecast-facts").replaceChildren();
    this.tell(
      unknown ? "There is no series of this name." : "There is no such forecast.",
      [error.message, error.hint].filter(Boolean).join(". "),
    );
  }

  /** Say something in place of the chart, or above it; null says nothing. */
  tell(title, words = "", beside = false) {
    this.message.hidden = title === null;
    byId("forecast-body").hidden = title !== null && !beside;
    this.message.replaceChildren(
      ...(title === null ? [] : [h("strong", {}, title), ...[words].flat().map((line) => h("p", {}, line))]),
    );
  }
}

function sameTime(a, b) {
  return new Date(a).getTime() === new Date(b).getTime();
}

function isSame(forecast, told) {
  return sameTime(forecast.origin, told.origin) && forecast.model_version === told.model_version;
}

function empty(status) {
  const topic = status?.topic ? `the topic ${status.topic}` : "the input topic";
  return [
    "No forecasts yet.",
    [
      `No series has arrived. As soon as a worker has read events from ${topic}, they are here by themselves.`,
      "tidecast stream reads them, tidecast produce FILE sends some, tidecast doctor says what is missing.",
    ],
  ];
}
