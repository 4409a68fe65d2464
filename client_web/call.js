// A call, from the question for the microphone to its end.

import { SourceError } from "./refusals.js";
import { Session } from "./session.js";

/**
 * One call after another, over the user's devices or a file.
 *
 * Events: those of a session, where "state" also has the states "asking" and "idle"; "opened" when
 * the sources are there; "refused" (detail: Error) when a call ended, or could not begin, for good.
 */
export class Call extends EventTarget {
  /** The server's greeting, or null before it came. */
  ready = null;

  #devices;
  #player;
  #session = null;
  #audio = null;
  #muted = false;
  #starts = 0; // counts starts and stops, so that a start that was overtaken gives up
  #ending = Promise.resolve(); // the old session gives its place back before a new one asks
  #playOnLive = false; // the file goes on where a lost connection cut it off

  /**
   * @param {import("./devices.js").Devices} devices
   * @param {import("./file_player.js").FilePlayer} player
   */
  constructor(devices, player) {
    super();
    this.#devices = devices;
    this.#player = player;
    devices.addEventListener("track", ({ detail }) => this.#replace(detail.track));
  }

  /** The track that is sent: the microphone's or the file's. */
  get audio() {
    return this.#audio;
  }

  get muted() {
    return this.#muted;
  }

  /** Whether silence is sent instead of the microphone's or the file's sound. */
  set muted(muted) {
    this.#muted = muted;
    if (this.#audio) this.#audio.enabled = !muted;
  }

  /**
   * Begins a call.
   *
   * @param {{avatar: string | null, file: boolean}} what no avatar: the camera's face; `file`: the
   *   player speaks instead of the microphone
   */
  async start({ avatar, file }) {
    const run = (this.#starts += 1);
    this.#playOnLive = file;
    this.#emit("state", { state: "asking" });
    // Made within the click, or the browser keeps the sound suspended.
    const fileTrack = file ? this.#player.track() : null;
    try {
      if (!("RTCPeerConnection" in window)) throw noWebRTC();
      await this.#devices.open({ microphone: !file, camera: !avatar });
    } catch (error) {
      if (run === this.#starts) this.fail(error);
      return;
    }
    if (run !== this.#starts) return;
    this.#audio = fileTrack ?? this.#devices.track("microphone");
    this.muted = this.#muted;
    this.#emit("opened");
    this.#emit("state", { state: "connecting", again: false });
    await this.#ending;
    if (run !== this.#starts) return;
    this.#connect({
      ...(avatar
        ? { mode: "avatar", avatar }
        : { mode: "live", video: this.#devices.track("camera") }),
      audio: this.#audio,
    });
  }

  /** Ends the call and closes the devices. */
  stop() {
    this.#starts += 1;
    this.#ending = this.#session?.stop() ?? this.#ending;
    this.#session = null;
    this.#audio = null;
    this.ready = null;
    this.muted = false;
    this.#player.pause();
    this.#devices.release();
    this.#emit("state", { state: "idle" });
  }

  /** Ends the call because of an error. */
  fail(error) {
    this.stop();
    this.#emit("refused", error);
  }

  /** Ends a pause before the next try to connect. */
  retryNow() {
    this.#session?.retryNow();
  }

  /** Silences what has not been heard yet; a file pauses. */
  interrupt() {
    this.#player.pause();
    this.#session?.send({ type: "interrupt" });
  }

  #connect(source) {
    this.#session = new Session(source);
    for (const type of ["state", "media", "message", "stats", "quiet"]) {
      this.#session.addEventListener(type, ({ detail }) => this.#pass(type, detail));
    }
    this.#session.start();
  }

  #pass(type, detail) {
    if (type === "message" && detail.type === "session.ready") this.ready = detail;
    const isError = type === "message" && detail.type === "error";
    // Where the server says when to come back, the session does.
    if (isError && detail.fatal && detail.retry_after_ms == null) {
      this.fail(new Error(detail.message));
      return;
    }
    if (type === "state" && detail.state === "ended") {
      this.fail(detail.error);
      return;
    }
    if (type === "state" && detail.state === "waiting") {
      this.#playOnLive ||= this.#player.playing;
      this.#player.pause();
    }
    if (type === "state" && detail.state === "live") {
      if (this.#playOnLive) this.#player.play().catch((error) => this.fail(error));
      this.#playOnLive = false;
    }
    this.#emit(type, detail);
  }

  #replace(track) {
    if (!this.#audio) return; // no call
    if (track.kind === "audio") {
      this.#audio = track;
      this.muted = this.#muted;
    }
    this.#session?.replace(track);
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

function noWebRTC() {
  return new SourceError(
    "This browser cannot make calls",
    "WebRTC is missing or turned off. Use a current Chrome, Edge, Firefox or Safari.",
  );
}
