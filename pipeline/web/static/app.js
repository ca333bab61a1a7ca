/** The page: one state, which is in its address; what it shows is read from the API and kept fresh. */

import { readAddress, writeAddress } from "./address.js";
import { Accuracy } from "./accuracy.js";
import { health, read } from "./api.js";
import { byId } from "./dom.js";
import { Finder } from "./finder.js";
import { ForecastView } from "./forecast.js";
import { Live } from "./live.js";
import { Models } from "./models.js";
import { DeadLetters, showJobs, showStream } from "./operations.js";
import { Reliability } from "./reliability.js";
import { showTiles } from "./tiles.js";
import { clock, span } from "./words.js";

const OFTEN = 5000; // jobs and partitions, milliseconds
const SELDOM = 60000; // accuracy and models

const seen = { status: null, accuracy: null, jobs: null, partitions: null, letters: null, models: null };
let state = readAddress();
let link = { up: null, since: Date.now() };

const finder = new Finder((name) => change({ series: name, origin: null, as_of: null }, { step: true }));
const forecast = new ForecastView({
  choose: (origin) => change({ origin, as_of: null }),
  ask: (asOf) => change({ as_of: asOf, origin: null }),
});
const accuracy = new Accuracy({ choose: (part) => change(part) });
const reliability = new Reliability();
const models = new Models();
const letters = new DeadLetters();
const live = new Live(receive, linked);

/** Change the state: address, then what depends on it. Resolves when the forecast is shown. */
async function change(part, { step = false } = {}) {
  const before = state;
  state = { ...state, ...part };
  writeAddress(state, { step });
  if ("days" in part || "metric" in part || "scope" in part) await refreshAccuracy();
  if (state.series !== before.series) await showSeries();
  else if (state.origin !== before.origin || state.as_of !== before.as_of) await forecast.show(state);
}

async function showSeries() {
  finder.select(state.series ?? null);
  document.title = state.series ? `${state.series} · tidecast` : "tidecast";
  const { series } = state;
  live.close(); // its events are those of another series
  await forecast.open(state, seen.status);
  if (series !== state.series) return;
  live.follow(forecast.unknown ? null : series); // a stream begins with the newest: nothing is missed in between
  if (state.scope === "one") await refreshAccuracy();
}

function receive(name, told) {
  if (name === "status") {
    if (told.database === "away") health.lost(told.since);
    else {
      seen.status = told;
      finder.follow(told.series);
    }
    drawState();
  } else forecast.arrive(name, told);
}

function linked(now) {
  link = now;
  drawLink();
  if (now.again) forecast.catchUp();
}

function drawLink() {
  const words =
    link.up === null ? "connecting" : link.up ? "live" : `not live since ${clock(link.since)} UTC, trying again`;
  byId("link").dataset.level = link.up ? "ok" : link.up === null ? "none" : "bad";
  if (byId("link-words").textContent !== words) byId("link-words").textContent = words;
}

function drawAway(away) {
  const banner = byId("banner");
  banner.hidden = !away;
  if (!away) return;
  const known = { database_away: "The database is away", unreachable: "tidecast serve does not answer" };
  const what = known[away.code] ?? [away.message, away.hint].filter(Boolean).join(": ");
  const words = `${what}, since ${clock(away.since)} UTC. What you see is from before; the page tries again by itself.`;
  if (banner.textContent !== words) banner.textContent = words;
}

function drawState() {
  const now = Date.now();
  showTiles({ ...seen, accuracy: seen.summary }, now);
  forecast.tick(now);
  if (seen.status) {
    const { version, frequency, horizon, season, topic } = seen.status;
    byId("foot").textContent =
      `tidecast ${version} · topic ${topic} · frequency ${frequency}, horizon ${horizon}, season ${season} · all times are UTC`;
  }
}

/** Read and keep; what does not answer keeps what was there. */
async function renewed(key, path, parameters) {
  const answer = await read(path, parameters).catch(() => null);
  if (answer) seen[key] = answer;
  return seen[key];
}

async function refreshOften() {
  if (document.hidden || health.away) return;
  const draw = (key, show) => renewed(key, `api/${key}`).then((found) => found && show(found, Date.now()));
  await Promise.all([
    draw("jobs", showJobs),
    draw("partitions", showStream),
    link.up || renewed("status", "api/status"),
  ]);
  drawState();
  if (!state.series && seen.status?.series) await start(); // the first series has arrived
}

async function refreshSeldom() {
  if (document.hidden || health.away) return;
  await renewed("status", "api/status");
  await Promise.all([refreshAccuracy(), refreshModels()]);
  await Promise.all([letters.load(), renewed("letters", "api/dead-letters", { waiting: true, limit: 100 })]);
  drawState();
}

async function refreshAccuracy() {
  const days = Number(state.days) || 7;
  const scope = state.scope === "one" && state.series ? "one" : "all";
  const champion = seen.status?.champion?.version ?? 0;
  const series = scope === "one" ? state.series : null;
  const [found, summary, shares] = await Promise.all([
    renewed("accuracy", "api/accuracy", { days, series }),
    renewed("summary", "api/accuracy", { days: 7 }),
    renewed("reliability", "api/reliability", { days, series }),
  ]);
  if (found) accuracy.show({ found, champion, days, metric: state.metric, scope, series: state.series });
  const names = new Map((summary?.items ?? []).map((item) => [item.model_version, item.model]));
  if (shares) reliability.show({ items: shares.items, champion, days, names });
}

async function refreshModels() {
  const [found, changes] = await Promise.all([
    renewed("models", "api/models", { limit: 50 }),
    renewed("promotions", "api/promotions", { limit: 50 }),
  ]);
  const awaited = seen.status?.awaited ?? [];
  if (found && changes) models.show({ models: found.items, promotions: changes.items, awaited, now: Date.now() });
}

/** Read everything, at the start and whenever the service is back. */
async function start() {
  await renewed("status", "api/status");
  drawState();
  const total = await finder.load();
  if (!state.series && total) {
    state.series = finder.first;
    writeAddress(state);
  }
  await Promise.all([showSeries(), refreshOften(), refreshSeldom()]);
}

function jump(event) {
  const anchor = event.target.closest?.("[data-jump], .skip");
  if (!anchor) return;
  event.preventDefault(); // the fragment is the state
  const section = byId(anchor.dataset.jump ?? "content");
  section.scrollIntoView({
    behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth",
    block: "start",
  });
  section.setAttribute("tabindex", "-1");
  section.focus({ preventScroll: true });
}

document.addEventListener("click", jump);
addEventListener("popstate", () => {
  const { origin = null, as_of = null, ...rest } = readAddress();
  change({ origin, as_of, ...rest });
});
document.addEventListener("visibilitychange", () => !document.hidden && (refreshOften(), refreshSeldom()));
document.documentElement.addEventListener("theme", (event) => (byId("theme").textContent = `Theme: ${event.detail}`));
byId("theme").addEventListener("click", () => document.documentElement.dispatchEvent(new Event("next-theme")));
document.documentElement.dispatchEvent(new Event("ask-theme"));

let wasAway = false;
health.listen((away) => {
  drawAway(away);
  if (!away && wasAway) start();
  wasAway = Boolean(away);
});
setInterval(refreshOften, OFTEN);
setInterval(refreshSeldom, SELDOM);
setInterval(() => (forecast.tick(Date.now()), drawState()), 1000);
start();
