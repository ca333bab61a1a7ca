/** Any past origin again: a slider, one back, one on, play; the newest is followed until one is chosen. */

import { byId, h } from "./dom.js";
import { read } from "./api.js";
import { moment } from "./words.js";

const PAGE = 200; // origins per request
const BEAT = 700; // milliseconds per origin while it plays

/** The origins of a page, oldest first; two models may have made a forecast from the same one. */
function origins(page) {
  return [...new Set(page.items.map((each) => each.origin))].reverse();
}

/** Tells `choose(origin | null)` and `ask(as_of)`; null is "follow the newest". */
export class Replay {
  constructor({ choose, ask }) {
    Object.assign(this, { choose, ask, series: null, origins: [], next: null, at: null, timer: null });
    const button = (words, label, act) =>
      h("button", { type: "button", "aria-label": label, title: label, on: { click: act } }, words);
    this.back = button("‹", "Previous origin", () => this.move(-1));
    this.on = button("›", "Next origin", () => this.move(1));
    this.playing = h("button", { type: "button", class: "play", on: { click: () => this.toggle() } }, "Play");
    this.slider = h("input", {
      type: "range",
      min: 0,
      max: 0,
      step: 1,
      value: 0,
      "aria-label": "Origin",
      on: { input: () => this.slide() },
    });
    this.older = h("button", { type: "button", class: "quiet", on: { click: () => this.more() } }, "Older");
    this.newest = h("button", { type: "button", class: "follow", on: { click: () => this.take(null) } }, "Newest");
    this.words = h("output", { class: "replay-words" });
    this.time = h("input", { type: "datetime-local", step: 1, id: "as-of", on: { change: () => this.asked() } });
    const moves = h("div", { class: "replay-moves" }, this.back, this.playing, this.on);
    const asOf = h("label", { class: "as-of", for: "as-of" }, "As of (UTC)", this.time);
    byId("replay").append(moves, this.older, this.slider, this.newest, this.words, asOf);
  }

  /** Read the origins of a series; `at` is the one that is shown, null for the newest. */
  async load(series, at) {
    this.stop();
    this.series = series;
    this.at = at;
    const page = await read("api/origins", { series, limit: PAGE }).catch(() => null);
    if (series !== this.series || page === null) return;
    this.origins = origins(page);
    this.next = page.next;
    while (at && this.next !== null && this.origins[0] > at && (await this.more())); // until the shared one is among them
    this.draw();
  }

  /** Request older origins; false when there are none. */
  async more() {
    const { series, next } = this;
    if (next === null) return false;
    const page = await read("api/origins", { series, before: next, limit: PAGE }).catch(() => null);
    if (series !== this.series || page === null) return false;
    this.origins = [...new Set([...origins(page), ...this.origins])];
    this.next = page.next;
    this.draw();
    return true;
  }

  /** A forecast has just been made. */
  arrive(origin) {
    if (this.origins.includes(origin)) return;
    this.origins = [...this.origins, origin].sort();
    this.draw();
  }

  /** What is shown now, which an as-of question may have found. */
  show(origin) {
    this.at = origin;
    this.draw();
  }

  get index() {
    const found = this.at ? this.origins.indexOf(this.at) : this.origins.length - 1;
    return found < 0 ? this.origins.length - 1 : found;
  }

  draw() {
    const last = this.origins.length - 1;
    byId("replay").hidden = last < 0;
    if (last < 0) return;
    const { index } = this;
    this.slider.max = last;
    this.slider.value = index;
    this.slider.disabled = last === 0;
    const shown = this.at ?? this.origins[last];
    const place = this.at ? `${last - index} before the newest` : "the newest";
    this.slider.setAttribute("aria-valuetext", `${moment(shown)} UTC, ${place}`);
    this.words.value = place;
    this.back.disabled = index === 0 && this.next === null;
    this.on.disabled = index === last;
    this.older.hidden = this.next === null;
    this.newest.setAttribute("aria-pressed", String(this.at === null));
    this.playing.textContent = this.timer ? "Pause" : "Play";
    this.playing.disabled = last === 0;
  }

  async move(by) {
    this.stop();
    if (this.index + by < 0 && !(await this.more())) return;
    this.goTo(this.index + by);
  }

  goTo(index) {
    const place = Math.min(this.origins.length - 1, Math.max(0, index));
    return this.take(place === this.origins.length - 1 ? null : this.origins[place], true);
  }

  slide() {
    this.stop();
    this.goTo(Number(this.slider.value));
  }

  take(origin, replaying = false) {
    if (!replaying) this.stop();
    this.at = origin;
    this.draw();
    return this.choose(origin);
  }

  toggle() {
    if (this.timer) {
      this.stop();
      return;
    }
    if (this.index === this.origins.length - 1) this.goTo(Math.max(0, this.origins.length - 1 - 24));
    const beat = async () => {
      await this.goTo(this.index + 1); // a slow answer delays the next beat rather than pile up
      if (!this.timer) return;
      if (this.index === this.origins.length - 1) this.stop();
      else this.timer = setTimeout(beat, BEAT);
    };
    this.timer = setTimeout(beat, BEAT);
    this.draw();
  }

  stop() {
    if (!this.timer) return;
    clearTimeout(this.timer);
    this.timer = null;
    this.draw();
  }

  asked() {
    if (this.time.value) this.ask(`${this.time.value.length === 16 ? `${this.time.value}:00` : this.time.value}Z`);
  }
}
