/** uPlot with this page's colours, in UTC; drawn again when the theme or the width changes. */

import uPlot from "./vendor/uPlot.esm.js";

const FONT = '11px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';

/** The value of a colour of the style sheet, which is another one in the other theme. */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** Options that every chart has. */
export function axes({ time = true, valuesX, valuesY, splitsX, labelX, labelY }) {
  const line = { stroke: colour("--line"), width: 1 };
  const shared = { stroke: colour("--soft"), font: FONT, ticks: { ...line, size: 4 }, labelFont: FONT, labelSize: 18 };
  return [
    {
      ...shared,
      grid: time ? { show: false } : line,
      size: time ? 46 : labelX ? 30 : 32,
      space: 58,
      values: valuesX,
      splits: splitsX,
      label: labelX,
    },
    { ...shared, grid: line, size: 52, space: 36, values: valuesY, label: labelY, ticks: { show: false } },
  ];
}

/** A chart that belongs to an element for as long as the page lives; `build()` gives {options, data} or null. */
export class Chart {
  constructor(element, height, build) {
    Object.assign(this, { element, height, build, plot: null });
    document.documentElement.addEventListener("theme", () => this.draw());
    new ResizeObserver(() => {
      const width = Math.floor(this.element.clientWidth);
      if (this.plot && width && (width !== this.plot.width || this.height() !== this.plot.height)) {
        this.plot.setSize({ width, height: this.height() });
      }
    }).observe(element);
  }

  /** Build it anew: for other data, another series, another theme. */
  draw() {
    const cursor = this.plot?.cursor.idx ?? null;
    const time = cursor === null ? null : this.plot.data[0][cursor];
    this.plot?.destroy();
    this.plot = null;
    const built = this.build();
    if (!built) return;
    const width = Math.max(200, Math.floor(this.element.clientWidth));
    const options = { width, height: this.height(), legend: { show: false }, ...built.options };
    if (options.scales?.x?.time !== false)
      options.tzDate = (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC");
    this.plot = new uPlot(options, built.data, this.element);
    for (const canvas of this.element.querySelectorAll("canvas")) canvas.setAttribute("aria-hidden", "true");
    if (time !== null) this.point(this.plot.data[0].indexOf(time));
  }

  /** Put the crosshair on the point `index` of the data; -1 takes it away. */
  point(index) {
    const { plot } = this;
    if (!plot) return;
    if (index < 0 || index >= plot.data[0].length) plot.setCursor({ left: -10, top: -10 });
    else plot.setCursor({ left: plot.valToPos(plot.data[0][index], "x"), top: plot.over.clientHeight / 2 });
  }
}
