/** Numbers, times and states in words; every time on the page is UTC and says so. */

const UTC = { timeZone: "UTC", hourCycle: "h23" };
const DAY = new Intl.DateTimeFormat("en-GB", { ...UTC, weekday: "short", day: "2-digit", month: "short" });
const DATE = new Intl.DateTimeFormat("en-GB", { ...UTC, day: "numeric", month: "short", year: "numeric" });
const SHORT = new Intl.DateTimeFormat("en-GB", { ...UTC, day: "numeric", month: "short" });
const MONTH = new Intl.DateTimeFormat("en-GB", { ...UTC, month: "short", year: "numeric" });
const CLOCK = new Intl.DateTimeFormat("en-GB", { ...UTC, hour: "2-digit", minute: "2-digit" });
const SECONDS = new Intl.DateTimeFormat("en-GB", { ...UTC, hour: "2-digit", minute: "2-digit", second: "2-digit" });
const YEAR = new Intl.DateTimeFormat("en-GB", { ...UTC, year: "numeric" });
const COUNT = new Intl.NumberFormat("en-US");
export const NONE = "–";

/** A value of a series: five digits are enough to read, and large ones are grouped. */
export function number(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  const size = Math.abs(value);
  if (size >= 1e9 || (size > 0 && size < 1e-4)) return value.toExponential(3);
  const digits = size >= 10000 ? 0 : size >= 1000 ? 1 : size >= 100 ? 2 : size >= 1 ? 3 : 4;
  return value.toLocaleString("en-US", { maximumFractionDigits: digits, minimumFractionDigits: size >= 1e4 ? 0 : 1 });
}

export function count(value) {
  return value === null || value === undefined ? NONE : COUNT.format(value);
}

/** A score such as MASE, three digits. */
export function score(value) {
  return value === null || value === undefined ? NONE : value.toFixed(3);
}

export function percent(share, digits = 1) {
  return share === null || share === undefined
    ? NONE
    : `${(share * 100).toFixed(digits).replace(/^-(0\.?0*)$/, "$1")} %`;
}

/** `Wed 25 Nov 14:00`, with the year when it is not this one; times as ISO text or milliseconds. */
export function moment(time, { seconds = false, now = Date.now() } = {}) {
  if (time === null || time === undefined) return NONE;
  const date = new Date(time);
  const year = YEAR.format(date) === YEAR.format(new Date(now)) ? "" : ` ${YEAR.format(date)}`;
  return `${DAY.format(date).replace(",", "")}${year} ${(seconds ? SECONDS : CLOCK).format(date)}`;
}

/** `24 Nov`, with the year when it is not this one, of a time as ISO text. */
export function day(time, now = Date.now()) {
  const date = new Date(time);
  return (YEAR.format(date) === YEAR.format(new Date(now)) ? SHORT : DATE).format(date);
}

export function clock(time) {
  return SECONDS.format(new Date(time));
}

/** Labels of a time axis in UTC, times in seconds: clock times, with the day below where a new one begins. */
export function axisTimes(splits) {
  const step = splits.length > 1 ? splits[1] - splits[0] : 0;
  let before = null;
  return splits.map((seconds) => {
    const date = new Date(seconds * 1000);
    const today = step >= 300 * 86400 ? YEAR.format(date) : step > 27 * 86400 ? MONTH.format(date) : SHORT.format(date);
    const label = step >= 86400 ? today : `${CLOCK.format(date)}${today === before ? "" : `\n${today}`}`;
    before = today;
    return label;
  });
}

/** `3 s`, `12 min`, `5 h`, `3 d`. */
export function span(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(seconds < 1 ? 1 : 0)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

export function ago(time, now = Date.now()) {
  if (time === null || time === undefined) return "never";
  const seconds = (now - new Date(time).getTime()) / 1000;
  return seconds < 1 ? "now" : `${span(seconds)} ago`;
}

/** What `quality` means for somebody who reads the chart; the level is ok, warn or bad. */
export function quality(word) {
  if (word === "ok") return { level: "ok", words: "ok", meaning: "made by the model on a well observed window" };
  if (word === "degraded") {
    return { level: "warn", words: "degraded", meaning: "too little of the window was observed, or it moves too little for its level" };
  }
  if (word === "fallback") {
    return {
      level: "warn",
      words: "fallback",
      meaning: "seasonal naive stands in: no champion yet, or the model's answer was not finite",
    };
  }
  return { level: "none", words: word ?? "no forecast yet", meaning: "" };
}

export function modelName(version, name) {
  if (version === 0) return "seasonal naive";
  return name ? `v${version} ${name}` : `v${version}`;
}

/** `day`, `7 days`. */
export function days(n) {
  return n === 1 ? "day" : `${n} days`;
}
