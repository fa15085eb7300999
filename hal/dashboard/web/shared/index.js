// What the pages share: tiles, curves in strips, small curves, colours, times.
export { Strips, elapsed } from "./strips.js";
export { spark } from "./spark.js";
export { Quality, Tile, lasted } from "./tile.js";

// Okabe and Ito's colours, told apart by every kind of colour vision (jfly.uni-koeln.de/color).
export const COLOURS = ["--curve-1", "--curve-2", "--curve-3", "--curve-4", "--curve-5", "--curve-6"];

export const two = (n) => String(n).padStart(2, "0");

export function clock(ms) {
  const d = new Date(ms);
  return `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
}

export function day(ms) {
  return new Date(ms).toLocaleDateString("en-GB", { weekday: "short", day: "numeric", month: "short" });
}

export function when(ms) {
  const d = new Date(ms);
  return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())} ${two(d.getHours())}:${two(d.getMinutes())}`;
}
