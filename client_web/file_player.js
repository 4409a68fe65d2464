// A sound file as a source of speech.

import { keepAwake } from "./awake.js";
import { SourceError } from "./refusals.js";

/**
 * Plays a sound file into a track and nowhere else, so that it is heard once, from the server.
 *
 * Events: "change" when it starts, pauses, moves on or ends.
 */
export class FilePlayer extends EventTarget {
  #element = new Audio();
  #context = null;
  #output = null;

  constructor() {
    super();
    for (const type of ["play", "pause", "ended", "timeupdate", "durationchange"]) {
      this.#element.addEventListener(type, () => this.dispatchEvent(new Event("change")));
    }
  }

  /** Takes a file; it streams from the disk, however long it is. */
  async load(file) {
    this.unload();
    const url = URL.createObjectURL(file);
    this.#element.src = url;
    try {
      await new Promise((resolve, reject) => {
        this.#element.addEventListener("canplay", resolve, { once: true });
        this.#element.addEventListener("error", reject, { once: true });
      });
    } catch {
      this.unload();
      throw new SourceError(
        "This file cannot be played",
        `“${file.name}” is no sound that this browser can play. Choose another, such as WAV, MP3 or M4A.`,
      );
    }
  }

  unload() {
    this.#element.pause();
    if (this.#element.src) URL.revokeObjectURL(this.#element.src);
    this.#element.removeAttribute("src");
  }

  get loaded() {
    return this.#element.hasAttribute("src");
  }

  /** The track that carries the sound; silent while nothing plays. Needs a user's click before. */
  track() {
    if (!this.#context) {
      const context = new AudioContext({ latencyHint: "interactive", sampleRate: 48_000 });
      this.#context = keepAwake(context);
      this.#output = this.#context.createMediaStreamDestination();
      this.#context.createMediaElementSource(this.#element).connect(this.#output);
    }
    return this.#output.stream.getAudioTracks()[0];
  }

  async play() {
    await this.#context?.resume();
    await this.#element.play();
  }

  pause() {
    this.#element.pause();
  }

  seek(seconds) {
    this.#element.currentTime = seconds;
  }

  get playing() {
    return !this.#element.paused && !this.#element.ended;
  }

  get positionS() {
    return this.#element.currentTime;
  }

  get durationS() {
    return Number.isFinite(this.#element.duration) ? this.#element.duration : 0;
  }
}
