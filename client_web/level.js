// How loud a track is: a bar, a word, and a figure for screen readers.

import { keepAwake } from "./awake.js";

const SILENT = 0.22; // -39 dB: room noise after the browser's suppression stays below
const CLIPPED = 0.99; // of full scale, in one sample
const WORD_EVERY_MS = 400;
const SILENT_AFTER_MS = 3_000; // pauses between sentences are shorter

/** Shows a track's level on a meter element (custom property `--level`, 0 to 1) and in words. */
export class LevelMeter {
  #meter;
  #word;
  #context = null;
  #input = null;
  #frame = 0;
  #track = null;

  /**
   * @param {HTMLElement} meter of role "meter"
   * @param {HTMLElement} word
   */
  constructor(meter, word) {
    this.#meter = meter;
    this.#word = word;
  }

  /** @param {MediaStreamTrack} track */
  start(track) {
    this.stop();
    this.#track = track;
    this.#context ??= keepAwake(new AudioContext());
    this.#input = this.#context.createMediaStreamSource(new MediaStream([track]));
    const analyser = this.#context.createAnalyser();
    analyser.fftSize = 1024;
    this.#input.connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    let level = 0;
    let peak = 0; // since the word was last chosen
    let heardAt = performance.now();
    let saidAt = 0;
    const draw = (now) => {
      analyser.getFloatTimeDomainData(samples);
      let energy = 0;
      for (const sample of samples) {
        energy += sample * sample;
        peak = Math.max(peak, Math.abs(sample));
      }
      const power = energy / samples.length;
      const loud = Math.min(1, Math.max(0, 1 + Math.log10(power + 1e-9) / 5)); // -50 dB .. 0 dB
      level = Math.max(loud, level * 0.88);
      this.#meter.style.setProperty("--level", level.toFixed(3));
      if (loud > SILENT) heardAt = now;
      if (now - saidAt > WORD_EVERY_MS) {
        this.#say(level, peak, now - heardAt);
        saidAt = now;
        peak = 0;
      }
      this.#frame = requestAnimationFrame(draw);
    };
    this.#frame = requestAnimationFrame(draw);
  }

  stop() {
    cancelAnimationFrame(this.#frame);
    this.#input?.disconnect();
    this.#input = null;
    this.#track = null;
    this.#meter.style.setProperty("--level", "0");
    this.#meter.setAttribute("aria-valuenow", "0");
    this.#word.textContent = "Off";
  }

  #say(level, peak, silentMs) {
    this.#meter.setAttribute("aria-valuenow", String(Math.round(100 * level)));
    if (!this.#track.enabled) this.#word.textContent = "Muted";
    else if (this.#track.muted) this.#word.textContent = "Turned off";
    else if (this.#context.state !== "running") this.#word.textContent = "Not measured";
    else if (peak > CLIPPED) this.#word.textContent = "Too loud";
    else if (silentMs > SILENT_AFTER_MS) this.#word.textContent = "Nothing heard";
    else this.#word.textContent = "Listening";
  }
}
