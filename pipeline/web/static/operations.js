/** Jobs, partitions and dead letters: what an operator looks at. */

import { read } from "./api.js";
import { byId, changed, h, renew, table } from "./dom.js";
import { NONE, ago, count, moment, span } from "./words.js";

export function showJobs({ items }, now) {
  const body = byId("jobs-body");
  if (!changed(body, [items, Math.floor(now / 10000)])) return;
  if (!items.length) {
    renew(
      body,
      h("p", { class: "empty" }, "No job has run yet. tidecast schedule runs them; tidecast run has it in it."),
    );
    return;
  }
  const columns = [
    { title: "Job", cell: (job) => h("strong", {}, job.job) },
    { title: "State", kind: "words", cell: (job) => state(job) },
    { title: "Timetable", cell: (job) => (job.timetable ? h("code", {}, job.timetable) : NONE) },
    { title: "Last run", cell: (job) => lastRun(job.last, now) },
    { title: "Result", kind: "words", cell: (job) => job.last?.reason ?? NONE },
  ];
  renew(body, table("Jobs", columns, items));
}

function state(job) {
  if (job.running) return progress(job);
  if (job.requested) return h("span", { class: "tag warn" }, "requested");
  if (job.paused) return h("span", { class: "tag warn" }, "paused");
  if (!job.enabled) return h("span", { class: "tag none" }, "off");
  return h("span", { class: "tag none" }, "waits");
}

function progress(job) {
  const { progress: now } = job;
  const words = now
    ? now.words ||
      [now.stage, now.steps ? `${count(now.step)} of ${count(now.steps)}` : null].filter(Boolean).join(", ")
    : "running";
  const bar = h("progress", {
    max: now?.steps || null,
    value: now?.steps ? now.step : null,
    "aria-label": `Progress of ${job.job}`,
  });
  return h(
    "div",
    { class: "progress" },
    h("span", { class: "tag live" }, "running"),
    bar,
    h("span", { class: "note" }, words),
  );
}

function lastRun(last, now) {
  if (!last) return NONE;
  const level = last.outcome === "ok" ? "ok" : last.outcome === "running" ? "live" : "bad";
  const took = last.seconds === null || last.seconds === undefined ? "" : ` in ${span(last.seconds)}`;
  const when = last.ended_at ?? last.started_at;
  return [
    h("span", { class: `tag ${level}` }, last.outcome),
    h("time", { datetime: when, title: `${moment(when, { seconds: true })} UTC` }, ` ${ago(when, now)}${took}`),
  ];
}

export function showStream({ items, lag_unknown_because: because }, now) {
  const body = byId("stream-body");
  if (!changed(body, [items, because, Math.floor(now / 5000)])) return;
  if (!items.length) {
    renew(body, h("p", { class: "empty" }, "No partition has been claimed yet. tidecast stream claims them."));
    return;
  }
  const columns = [
    { title: "Partition", cell: (row) => `${row.topic} / ${row.partition}` },
    {
      title: "Lag",
      kind: "number",
      cell: (row) =>
        row.lag === null
          ? h("span", { class: "tag none" }, "unknown")
          : h("span", { class: row.lag ? "tag warn" : "tag ok" }, count(row.lag)),
    },
    { title: "Stored to", kind: "number", cell: (row) => count(row.next_offset) },
    { title: "End", kind: "number", cell: (row) => count(row.end_offset) },
    {
      title: "Last commit",
      cell: (row) =>
        h(
          "time",
          { datetime: row.updated_at, title: `${moment(row.updated_at, { seconds: true })} UTC` },
          ago(row.updated_at, now),
        ),
    },
    { title: "Owner", cell: (row) => h("code", {}, row.owner) },
    { title: "Epoch", kind: "number", cell: (row) => count(row.epoch) },
  ];
  const unknown = items.every((row) => row.lag === null) ? "Lag" : "Some lag";
  renew(
    body,
    because && h("p", { class: "note" }, `${unknown} is unknown: ${because}`),
    table("Partitions of the input", columns, items),
  );
}

/** Dead letters, newest first, a page at a time. */
export class DeadLetters {
  constructor() {
    this.body = byId("dead-letters-body");
    this.items = [];
  }

  async load() {
    const page = await read("api/dead-letters", { limit: 20 }).catch(() => null);
    if (page && changed(this.body, page)) this.show(page.items, page.next);
    return page;
  }

  show(items, next) {
    if (!items.length) {
      renew(this.body, h("p", { class: "empty" }, "None. Every message could be read."));
      return;
    }
    const columns = [
      { title: "Received (UTC)", cell: (letter) => moment(letter.received_at, { seconds: true }) },
      { title: "From", cell: (letter) => `${letter.topic} / ${letter.partition} @ ${count(letter.offset)}` },
      { title: "Reason", kind: "words", cell: (letter) => letter.reason },
      { title: "Message", kind: "words", cell: (letter) => h("code", { class: "value" }, letter.value ?? NONE) },
      { title: "Requeued", cell: (letter) => (letter.requeued_at ? moment(letter.requeued_at) : "no") },
    ];
    const more =
      next !== null &&
      h("button", { type: "button", class: "quiet", on: { click: () => this.more(items, next) } }, "Older");
    const how = h("p", { class: "note" }, "tidecast dead-letters requeue sends one again.");
    renew(this.body, table("Dead letters", columns, items), h("div", { class: "under" }, how, more || null));
  }

  async more(items, next) {
    const page = await read("api/dead-letters", { after: next, limit: 50 }).catch(() => null);
    if (page) this.show([...items, ...page.items], page.next);
  }
}
