/** The line of a model in the charts of accuracy: the same colour and mark in each of them. */

import { colour } from "./chart.js";
import { h } from "./dom.js";

const COLOURS = ["--accent", "--m2", "--m3", "--m4", "--m5"];
const MOST_MODELS = 5;

/** The colour of each model in both charts: the champion's is the page's accent, seasonal naive's is grey. */
export function dress(versions, champion) {
  const others = versions.filter((version) => version !== 0 && version !== champion).sort((a, b) => b - a);
  const shown = [...(versions.includes(champion) && champion !== 0 ? [champion] : []), ...others].slice(
    0,
    MOST_MODELS - 1,
  );
  const list = versions.includes(0) ? [...shown, 0] : shown;
  return list.map((version, index) => ({
    version,
    colour: version === 0 ? "--naive" : COLOURS[champion && version !== champion ? Math.max(1, index) : index],
    dash: version === 0 ? [4, 4] : undefined,
  }));
}

/** How uPlot draws a model's line. */
export function stroke(line) {
  const paint = colour(line.colour);
  return {
    stroke: paint,
    width: 2,
    dash: line.dash,
    points: { show: true, size: 6, width: 0, fill: paint, stroke: paint },
  };
}

/** A line for what would be right. */
export function idealLine() {
  return { stroke: colour("--soft"), width: 1, dash: [2, 3], points: { show: false } };
}

/** The mark of a model's line, for a legend or a table. */
export function mark(line) {
  const swatch = h("i", { class: "swatch line", "aria-hidden": "true" });
  swatch.style.setProperty("--paint", `var(${line.colour})`);
  return swatch;
}
