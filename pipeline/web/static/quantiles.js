/** Quantiles of a forecast: those that are stored, and those between two that are. */

/** Bands of the fan, widest first, by the levels of their edges. */
export const BANDS = [
  { name: "95 %", low: 0.025, high: 0.975, colour: "--band-95" },
  { name: "80 %", low: 0.1, high: 0.9, colour: "--band-80" },
  { name: "50 %", low: 0.25, high: 0.75, colour: "--band-50" },
];

/** Where `level` lies among the stored levels: [lower index, upper index, weight of the upper], or null outside. */
function place(levels, level) {
  const upper = levels.findIndex((each) => each >= level - 1e-9);
  if (upper < 0) return null;
  if (Math.abs(levels[upper] - level) < 1e-9) return [upper, upper, 0];
  if (upper === 0) return null;
  return [upper - 1, upper, (level - levels[upper - 1]) / (levels[upper] - levels[upper - 1])];
}

/** The quantile at `level`, linear between its stored neighbours; null outside the stored levels. */
export function quantileAt(levels, quantiles, level) {
  const found = place(levels, level);
  if (!found) return null;
  const [lower, upper, weight] = found;
  return quantiles[lower] + weight * (quantiles[upper] - quantiles[lower]);
}

/** Say in words which edges of a band are not stored, or null when both are. */
export function interpolation(levels, band) {
  const between = [band.low, band.high]
    .map((level) => place(levels, level))
    .filter((found) => found && found[0] !== found[1])
    .map(([lower, upper]) => `${levels[lower]} and ${levels[upper]}`);
  return between.length
    ? `The ${band.name} band is interpolated between the stored quantiles ${between.join(", ")}.`
    : null;
}

/** The narrowest of the bands that holds `value`, in words. */
export function inside(levels, quantiles, value) {
  for (const band of [...BANDS].reverse()) {
    const low = quantileAt(levels, quantiles, band.low);
    const high = quantileAt(levels, quantiles, band.high);
    if (low !== null && high !== null && low <= value && value <= high) return `inside ${band.name}`;
  }
  return "outside 95 %";
}
