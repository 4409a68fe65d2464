// The last minute's latency as a picture, as a sentence and as figures.

import { PARTS, percentile } from "./latency.js";

const SECONDS = 60;
const WIDTH = 120; // of the SVG's viewBox
const HEIGHT = 32;
const SCALES_MS = [250, 500, 1000, 2000, 4000, 8000]; // few, so that the axis seldom jumps
const SVG = "http://www.w3.org/2000/svg";

/** The last minute, a `Second` (see latency.js) each. */
export class Minute {
  /** @type {import("./latency.js").Second[]} */
  seconds = [];

  push(second) {
    this.seconds.push(second);
    this.seconds.splice(0, this.seconds.length - SECONDS);
  }

  clear() {
    this.seconds = [];
  }

  /** Median of the medians, and what 95 of 100 seconds' p95 stay under; null of nothing. */
  get total() {
    return this.#over(({ total }) => total);
  }

  /** The same of one part, by its key. */
  part(key) {
    return this.#over(({ parts }) => parts[key]);
  }

  /** The plot in one sentence, for those who do not see it too. */
  get summary() {
    const { p50, p95 } = this.total;
    if (p50 === null) return "Nothing measured yet.";
    const during = `over the last ${this.seconds.length} s`;
    return `Median ${Math.round(p50)} ms, 95 of 100 under ${Math.round(p95)} ms, ${during}.`;
  }

  #over(spread) {
    const values = this.seconds.map(spread);
    const known = (key) => values.map((value) => value[key]).filter((ms) => ms !== null);
    return { p50: percentile(known("p50"), 50), p95: percentile(known("p95"), 95) };
  }
}

/** The parts stacked as areas, the median as a line above them, the p95 as a dashed one. */
export class LatencyPlot {
  #areas;
  #median;
  #p95;

  /** @param {SVGSVGElement} svg of viewBox 0 0 120 32 */
  constructor(svg) {
    this.#areas = PARTS.map(([key]) => add(svg, `area part-${key}`));
    this.#p95 = add(svg, "line p95");
    this.#median = add(svg, "line");
  }

  /**
   * @param {Minute} minute
   * @returns {number} what the plot's upper edge stands for, in ms
   */
  draw({ seconds }) {
    const highest = Math.max(0, ...seconds.map(({ total }) => total.p95 ?? 0));
    const top = SCALES_MS.find((ms) => ms > highest) ?? highest;
    const x = (index) => WIDTH - ((seconds.length - 1 - index) * WIDTH) / (SECONDS - 1);
    const y = (ms) => HEIGHT - (HEIGHT * ms) / top;
    const line = (value) => path(seconds.map((second, i) => [x(i), value(second), y]));
    this.#median.setAttribute(
      "d",
      line(({ total }) => total.p50),
    );
    this.#p95.setAttribute(
      "d",
      line(({ total }) => total.p95),
    );
    PARTS.forEach((_, count) => {
      const edge = seconds.map((second, i) => [x(i), stacked(second, count + 1), y]);
      const base = seconds.map((second, i) => [x(i), stacked(second, count), y]);
      this.#areas[count].setAttribute("d", band(edge, base));
    });
    return top;
  }
}

/** The first `count` parts of a second together; null where its total is unknown. */
function stacked({ total, parts }, count) {
  if (total.p50 === null) return null;
  return PARTS.slice(0, count).reduce((ms, [key]) => ms + parts[key].p50, 0);
}

/** A line through the points [x, ms, y], broken where ms is null. */
function path(points) {
  let pen = "M";
  let d = "";
  for (const [x, ms, y] of points) {
    if (ms === null) pen = "M";
    else {
      d += `${pen}${x.toFixed(1)} ${y(ms).toFixed(2)}`;
      pen = "L";
    }
  }
  return d;
}

/** The area between two lines over the same seconds; unknown ones are bridged. */
function band(edge, base) {
  const there = path(edge.filter(([, ms]) => ms !== null));
  const back = path(base.filter(([, ms]) => ms !== null).reverse());
  return there && `${there}L${back.slice(1)}Z`;
}

function add(svg, classes) {
  const element = document.createElementNS(SVG, "path");
  element.setAttribute("class", classes);
  svg.append(element);
  return element;
}
