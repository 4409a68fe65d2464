// The strip below the picture: what the server and this browser measure, and a copy of it all.

import { PARTS } from "./latency.js";
import { LatencyPlot, Minute } from "./latency_plot.js";

const $ = (id) => document.getElementById(id);

const UNKNOWN = "–";
const FIGURES = [
  "latency",
  "server-p50",
  "server-p95",
  "fps",
  "dropped",
  "late",
  "synced-share",
  "playout",
  "engine",
];

const whole = (value) => (Number.isFinite(value) ? String(Math.round(value)) : UNKNOWN);
const ms = (value) => (value === null ? UNKNOWN : `${whole(value)} ms`);

/** The strip and its latency panel. */
export class Figures {
  #minute = new Minute();
  #small = new LatencyPlot($("spark"));
  #large = new LatencyPlot($("plot"));
  #rows = new Map();
  #latest = null; // the server's stats

  constructor() {
    for (const [key, label] of PARTS) {
      const row = document.createElement("li");
      const value = document.createElement("b");
      row.className = `part-${key}`;
      row.append(label, value);
      $("parts").append(row);
      this.#rows.set(key, value);
    }
    $("latency-button").addEventListener("click", () => this.toggle());
    $("latency-close").addEventListener("click", () => this.close());
    this.#draw();
  }

  /** Shows the server's figures of the last second. */
  showServer(stats) {
    this.#latest = stats;
    $("server-p50").textContent = whole(stats.server_latency_ms?.p50);
    $("server-p95").textContent = whole(stats.server_latency_ms?.p95);
    $("late").textContent = whole(stats.late_hops);
    $("dropped").textContent = whole(stats.dropped_frames);
    $("playout").textContent = whole(stats.playout_delay_ms);
    const synced = stats.synced;
    $("synced-share").textContent = Number.isFinite(synced) ? `${whole(100 * synced)} %` : UNKNOWN;
    $("engine").textContent = stats.backend ?? UNKNOWN;
  }

  /** Shows what this browser measured in the last second, a `Second` of latency.js. */
  showSecond(second) {
    $("fps").textContent = whole(second.fps ?? NaN);
    $("latency").textContent = whole(second.total.p50 ?? NaN);
    this.#minute.push(second);
    this.#draw();
  }

  /** Nothing is measured at the moment; the plot keeps what was. */
  pause() {
    for (const id of FIGURES) $(id).textContent = UNKNOWN;
  }

  clear() {
    this.pause();
    this.#minute.clear();
    this.#latest = null;
    this.#draw();
  }

  toggle() {
    if ($("latency-panel").hidden) this.#open();
    else this.close();
  }

  /** Closes the latency panel; false when it was closed already. */
  close() {
    if ($("latency-panel").hidden) return false;
    const inside = $("latency-panel").contains(document.activeElement);
    $("latency-panel").hidden = true;
    $("latency-button").setAttribute("aria-expanded", "false");
    if (inside) $("latency-button").focus();
    return true;
  }

  /** What was measured, as it goes into a report: the last minute and the latest figures. */
  get record() {
    return {
      last_minute: { total: this.#minute.total, seconds: this.#minute.seconds },
      server: this.#latest,
    };
  }

  #open() {
    $("latency-panel").hidden = false;
    $("latency-button").setAttribute("aria-expanded", "true");
    this.#draw();
  }

  #draw() {
    this.#small.draw(this.#minute);
    if ($("latency-panel").hidden) return;
    $("plot-top").textContent = ms(this.#large.draw(this.#minute));
    for (const [key, value] of this.#rows) value.textContent = ms(this.#minute.part(key).p50);
    $("latency-summary").textContent = this.#minute.summary;
  }
}
