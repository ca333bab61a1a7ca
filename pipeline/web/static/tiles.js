/** The row of figures on top: is it well? */

import { byId, changed, h, renew } from "./dom.js";
import { NONE, ago, count, modelName, percent, score } from "./words.js";

/** Everything is optional: what is not known yet is a dash. */
export function showTiles({ status, accuracy, jobs, partitions, letters }, now) {
  const tiles = [
    championTile(status),
    maseTile(accuracy, status?.champion?.version),
    coverageTile(accuracy, status?.champion?.version),
    freshTile(status, now),
    lagTile(partitions),
    jobsTile(jobs),
    lettersTile(letters),
  ];
  const list = byId("tiles");
  if (!changed(list, tiles)) return;
  renew(
    list,
    ...tiles.map((tile) =>
      h(
        "li",
        { class: `tile ${tile.level ?? "none"}` },
        h(
          "a",
          { href: `#${tile.to}`, "data-jump": tile.to, title: `${tile.name}: ${tile.value} ${tile.words}` },
          h("span", { class: "tile-name" }, tile.name),
          h("span", { class: "tile-value" }, tile.value),
          h("span", { class: "tile-words" }, tile.words),
        ),
      ),
    ),
  );
}

function championTile(status) {
  const champion = status?.champion;
  if (!status) return { name: "Champion", value: NONE, words: "", to: "models" };
  const version = champion?.version ?? 0;
  const served = version === 0 ? "version 0" : (champion.kind ?? champion.name);
  return {
    name: "Champion",
    value: modelName(version, null),
    words: [served, ...status.awaited.map((each) => `next, ${each}`)].join("; "),
    to: "models",
    level: version === 0 ? "warn" : "none",
  };
}

/** Mean over the horizon of a figure of one model, weighted by the steps. */
export function mean(accuracy, version, figure) {
  const rows = (accuracy?.items ?? []).filter((item) => item.model_version === version && item[figure] !== null);
  const steps = rows.reduce((total, item) => total + item.n, 0);
  return steps ? rows.reduce((total, item) => total + item[figure] * item.n, 0) / steps : null;
}

function maseTile(accuracy, champion) {
  const mase = mean(accuracy, champion, "mase");
  const own = (accuracy?.items ?? []).filter((item) => item.model_version === champion && item.skill !== null);
  const skills = own.map((item) => item.skill).sort((a, b) => a - b); // by horizon: a skill is no mean of others
  const tile = { name: "MASE, live", value: score(mase), to: "accuracy" };
  if (!skills.length) return { ...tile, words: "no evidence yet" };
  const [worst, best] = [skills[0], skills.at(-1)].map((skill) => (skill * 100).toFixed(0));
  const level = skills.at(-1) < 0 ? "bad" : skills[0] < 0 ? "warn" : "ok";
  return { ...tile, words: `skill ${worst} to ${best} %`, level };
}

function coverageTile(accuracy, champion) {
  const held = mean(accuracy, champion, "coverage_80");
  const off = held === null ? 0 : Math.abs(held - 0.8);
  return {
    name: "80 % coverage",
    value: percent(held, 0),
    words: held === null ? "no evidence yet" : "of actuals inside",
    to: "reliability",
    level: held === null ? "none" : off > 0.1 ? "warn" : "ok",
  };
}

function freshTile(status, now) {
  const newest = status?.forecasts_newest_issued_at;
  return {
    name: "Newest forecast",
    value: newest ? ago(newest, now) : NONE,
    words: newest ? "in any series" : "none yet",
    to: "forecast",
  };
}

function plural(partitions) {
  return `${count(partitions)} partition${partitions === 1 ? "" : "s"}`;
}

function lagTile(partitions) {
  const items = partitions?.items ?? [];
  const known = items.filter((row) => row.lag !== null);
  if (!items.length) return { name: "Lag", value: NONE, words: "no partition claimed", to: "stream" };
  if (!known.length) return { name: "Lag", value: "unknown", words: plural(items.length), to: "stream" };
  const lag = known.reduce((total, row) => total + row.lag, 0);
  const unknown = items.length - known.length;
  return {
    name: "Lag",
    value: count(lag),
    words: `in ${plural(known.length)}${unknown ? `, unknown in ${count(unknown)}` : ""}`,
    to: "stream",
    level: lag || unknown ? "warn" : "ok",
  };
}

function jobsTile(jobs) {
  const items = jobs?.items ?? [];
  if (!items.length) return { name: "Jobs", value: NONE, words: "none has run", to: "jobs" };
  const bad = items.filter((job) => job.last && !["ok", "running"].includes(job.last.outcome));
  const running = items.filter((job) => job.running).map((job) => job.job);
  if (bad.length)
    return {
      name: "Jobs",
      value: `${bad.length} failed`,
      words: bad.map((job) => job.job).join(", "),
      to: "jobs",
      level: "bad",
    };
  return {
    name: "Jobs",
    value: "ok",
    words: running.length ? `${running.join(", ")} running` : "none is running",
    to: "jobs",
    level: "ok",
  };
}

function lettersTile(letters) {
  if (!letters) return { name: "Dead letters", value: NONE, words: "", to: "dead-letters" };
  const waiting = letters.items.length;
  const many = letters.next !== null ? "+" : "";
  return {
    name: "Dead letters",
    value: `${count(waiting)}${waiting ? many : ""}`,
    words: waiting ? "not requeued" : "none waits",
    to: "dead-letters",
    level: waiting ? "warn" : "ok",
  };
}
