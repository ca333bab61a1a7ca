/** What the page shows, in the fragment of its address, so that a link shows the same: #series=...&origin=... */

const KEYS = ["series", "origin", "as_of", "days", "metric", "scope"];

export function readAddress() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  return Object.fromEntries(KEYS.filter((key) => fragment.get(key)).map((key) => [key, fragment.get(key)]));
}

/** Write the state; a new series is a step in the browser's history, the rest replaces the current one. */
export function writeAddress(state, { step = false } = {}) {
  const fragment = new URLSearchParams(KEYS.filter((key) => state[key]).map((key) => [key, state[key]])).toString();
  if (`#${fragment}` === location.hash || (!fragment && !location.hash)) return;
  history[step ? "pushState" : "replaceState"](null, "", `#${fragment}`);
}
