// End-to-end latency from its parts, second by second, and the received frame rate.

const OPUS_PACKET_MS = 20; // a packet leaves when its last sample is there

/** The parts in the order in which they pass: [key, label]. */
export const PARTS = [
  ["capture", `Microphone and ${OPUS_PACKET_MS} ms packet`],
  ["network", "Network, there and back"],
  ["server", "Server: look-ahead, hop, model, playout"],
  ["display", "Buffer, decoder and display here"],
];

/**
 * @typedef {{p50: number | null, p95: number | null}} Spread in ms; null where nothing is known
 * @typedef {{fps: number | null, total: Spread, parts: Record<string, Spread>}} Second
 */

/**
 * Measures one call.
 *
 * The network's share is the measured round trip, half of it each way. What the receiving side adds
 * is measured frame by frame where the browser says when a frame arrived and when it will be shown,
 * else taken from the jitter buffer's and decoder's own totals. The total's p95 is the parts' p95
 * added: rather too high, as their worst moments seldom meet.
 */
export class LatencyMeter {
  #video;
  #captureMs = 0;
  #shownMs = []; // arrival to display of this second's frames
  #inbound = null;
  #server = {};
  #running = 0;

  /** @param {HTMLVideoElement} video */
  constructor(video) {
    this.#video = video;
  }

  /** @param {MediaStreamTrack} audio the track that is sent */
  start(audio) {
    this.hearFrom(audio);
    this.#inbound = null;
    this.#server = {};
    this.#shownMs = [];
    this.#running += 1;
    if ("requestVideoFrameCallback" in this.#video) this.#follow(this.#running);
  }

  stop() {
    this.#running += 1;
  }

  /** Another track is sent from now on. */
  hearFrom(audio) {
    this.#captureMs = 1000 * (audio.getSettings?.().latency ?? 0);
  }

  /** Takes the server's figures of the last second. */
  hear(stats) {
    this.#server = stats;
  }

  /**
   * Takes the browser's figures of the last second.
   *
   * @param {RTCStatsReport} report
   * @returns {Second}
   */
  measure(report) {
    const { inbound, roundTripMs } = read(report);
    const before = this.#inbound;
    this.#inbound = inbound;
    const server = this.#server.server_latency_ms ?? {};
    const parts = {
      capture: both(this.#captureMs + OPUS_PACKET_MS),
      network: both(roundTripMs),
      server: { p50: server.p50 ?? null, p95: server.p95 ?? server.p50 ?? null },
      display: this.#display(before, inbound),
    };
    return {
      fps: before && inbound ? rate(before, inbound, "framesDecoded") : null,
      total: { p50: sum(parts, "p50"), p95: sum(parts, "p95") },
      parts,
    };
  }

  #follow(run) {
    this.#video.requestVideoFrameCallback((_, { receiveTime, expectedDisplayTime }) => {
      if (run !== this.#running) return;
      if (receiveTime !== undefined) {
        this.#shownMs.push(Math.max(0, expectedDisplayTime - receiveTime));
      }
      this.#follow(run);
    });
  }

  #display(before, inbound) {
    const shown = this.#shownMs;
    this.#shownMs = [];
    if (shown.length) return { p50: percentile(shown, 50), p95: percentile(shown, 95) };
    if (!before || !inbound) return both(null);
    const buffered = mean(before, inbound, "jitterBufferDelay", "jitterBufferEmittedCount");
    const decoded = mean(before, inbound, "totalDecodeTime", "framesDecoded");
    return both(buffered === null || decoded === null ? null : 1000 * (buffered + decoded));
  }
}

/** The value that `percent` of 100 stay under or meet; null of nothing. */
export function percentile(values, percent) {
  if (!values.length) return null;
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * percent) / 100))];
}

function read(report) {
  let inbound = null;
  let roundTripMs = null;
  for (const entry of report.values()) {
    if (entry.type === "inbound-rtp" && entry.kind === "video") inbound = entry;
    // Not every browser times its connectivity checks; the reports on our own stream do as well.
    const { type, roundTripTime, currentRoundTripTime, nominated } = entry;
    if (type === "candidate-pair" && nominated && currentRoundTripTime !== undefined) {
      roundTripMs = 1000 * currentRoundTripTime;
    }
    if (type === "remote-inbound-rtp" && roundTripTime !== undefined) {
      roundTripMs ??= 1000 * roundTripTime;
    }
  }
  return { inbound, roundTripMs };
}

const both = (ms) => ({ p50: ms, p95: ms });

function sum(parts, key) {
  const values = Object.values(parts).map((spread) => spread[key]);
  return values.includes(null) ? null : values.reduce((a, b) => a + b, 0);
}

function rate(before, now, key) {
  const seconds = (now.timestamp - before.timestamp) / 1000;
  return seconds > 0 ? ((now[key] ?? 0) - (before[key] ?? 0)) / seconds : null;
}

function mean(before, now, total, count) {
  const events = (now[count] ?? 0) - (before[count] ?? 0);
  return events > 0 ? (now[total] - before[total]) / events : null;
}
