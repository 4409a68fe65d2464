// What the page measures and draws: end-to-end latency, received frames, loudness.

const OPUS_PACKET_MS = 20; // a packet leaves when its last sample is there
const SPARK_POINTS = 60; // one a second

/**
 * End-to-end latency from its parts, and the received frame rate.
 *
 * The network's share is half the measured round trip each way. What the receiving side adds is
 * measured frame by frame where the browser says when a frame arrived and when it will be shown,
 * else taken from the jitter buffer's and decoder's own totals.
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
    this.#captureMs = 1000 * (audio.getSettings?.().latency ?? 0);
    this.#inbound = null;
    this.#server = {};
    this.#shownMs = [];
    this.#running += 1;
    if ("requestVideoFrameCallback" in this.#video) this.#follow(this.#running);
  }

  stop() {
    this.#running += 1;
  }

  /** Takes the server's figures of the last second. */
  hear(stats) {
    this.#server = stats;
  }

  /**
   * Takes the browser's figures of the last second.
   *
   * @param {RTCStatsReport} report
   * @returns {{fps: number | null, totalMs: number | null, parts: {label: string, ms: number}[]}}
   */
  measure(report) {
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
    const before = this.#inbound;
    this.#inbound = inbound;
    const fps = before && inbound ? rate(before, inbound, "framesDecoded") : null;
    const receiveMs = this.#receiveMs(before, inbound);
    const serverMs = this.#server.server_latency_ms?.p50 ?? null;
    const parts = [
      { label: `Microphone and ${OPUS_PACKET_MS} ms packet`, ms: this.#captureMs + OPUS_PACKET_MS },
      { label: "Network, there", ms: roundTripMs === null ? null : roundTripMs / 2 },
      { label: "Server: look-ahead, hop, model, playout", ms: serverMs },
      { label: "Network, back", ms: roundTripMs === null ? null : roundTripMs / 2 },
      { label: "Buffer, decoder and display here", ms: receiveMs },
    ];
    const known = parts.every(({ ms }) => ms !== null);
    return { fps, totalMs: known ? parts.reduce((sum, { ms }) => sum + ms, 0) : null, parts };
  }

  #follow(run) {
    this.#video.requestVideoFrameCallback((_, { receiveTime, expectedDisplayTime }) => {
      if (run !== this.#running) return;
      if (receiveTime !== undefined) this.#shownMs.push(expectedDisplayTime - receiveTime);
      this.#follow(run);
    });
  }

  #receiveMs(before, inbound) {
    const shown = this.#shownMs.sort((a, b) => a - b);
    this.#shownMs = [];
    if (shown.length) return Math.max(0, shown[shown.length >> 1]);
    if (!before || !inbound) return null;
    const buffered = mean(before, inbound, "jitterBufferDelay", "jitterBufferEmittedCount");
    const decoded = mean(before, inbound, "totalDecodeTime", "framesDecoded");
    return buffered === null || decoded === null ? null : 1000 * (buffered + decoded);
  }
}

function rate(before, now, key) {
  const seconds = (now.timestamp - before.timestamp) / 1000;
  return seconds > 0 ? ((now[key] ?? 0) - (before[key] ?? 0)) / seconds : null;
}

function mean(before, now, total, count) {
  const events = (now[count] ?? 0) - (before[count] ?? 0);
  return events > 0 ? (now[total] - before[total]) / events : null;
}

/** A line of the last minute in an SVG of viewBox 0 0 120 32; gaps where nothing was measured. */
export class Sparkline {
  #line;
  #area;
  #values = [];

  /** @param {SVGSVGElement} svg with a `.line` and an `.area` path */
  constructor(svg) {
    this.#line = svg.querySelector(".line");
    this.#area = svg.querySelector(".area");
  }

  /** @param {number | null} value */
  push(value) {
    this.#values.push(value);
    this.#values.splice(0, this.#values.length - SPARK_POINTS);
    this.#draw();
  }

  clear() {
    this.#values = [];
    this.#draw();
  }

  #draw() {
    const known = this.#values.filter((value) => value !== null);
    // The axis starts at zero: a calm line must not look like a wild one.
    const top = Math.max(200, ...known) * 1.15;
    const points = [];
    this.#values.forEach((value, index) => {
      if (value === null) return;
      const x = 120 - ((this.#values.length - 1 - index) * 120) / (SPARK_POINTS - 1);
      points.push(`${x.toFixed(1)} ${(31 - (30 * value) / top).toFixed(1)}`);
    });
    const line = points.length > 1 ? `M${points.join("L")}` : "";
    this.#line.setAttribute("d", line);
    const [first, last] = [points[0]?.split(" ")[0], points.at(-1)?.split(" ")[0]];
    this.#area.setAttribute("d", line && `${line}L${last} 32L${first} 32Z`);
  }
}

/** Shows how loud a track is, 0 to 1, as the custom property `--level` of an element. */
export class LevelMeter {
  #element;
  #context = null;
  #input = null;
  #frame = 0;

  /** @param {HTMLElement} element */
  constructor(element) {
    this.#element = element;
  }

  /** @param {MediaStreamTrack} track */
  start(track) {
    this.stop();
    this.#context ??= new AudioContext();
    this.#context.resume();
    this.#input = this.#context.createMediaStreamSource(new MediaStream([track]));
    const analyser = this.#context.createAnalyser();
    analyser.fftSize = 1024;
    this.#input.connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    let level = 0;
    const draw = () => {
      analyser.getFloatTimeDomainData(samples);
      const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
      const loud = Math.min(1, Math.max(0, 1 + Math.log10(power + 1e-9) / 5)); // -50 dB .. 0 dB
      level = Math.max(loud, level * 0.88);
      this.#element.style.setProperty("--level", level.toFixed(3));
      this.#frame = requestAnimationFrame(draw);
    };
    draw();
  }

  stop() {
    cancelAnimationFrame(this.#frame);
    this.#input?.disconnect();
    this.#input = null;
    this.#element.style.setProperty("--level", "0");
  }
}
