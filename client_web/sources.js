// Where speech and pictures come from: microphone, camera, a sound file.

const MICROPHONE = {
  // The voice comes back from the server: without cancellation it would loop through the speakers.
  echoCancellation: true,
  noiseSuppression: true,
  autoGainControl: true,
  channelCount: 1,
};
const CAMERA = {
  width: { ideal: 640 },
  height: { ideal: 480 },
  frameRate: { ideal: 25, max: 30 },
  facingMode: "user",
};

/** A source that could not be had; the message says what to do about it. */
export class SourceError extends Error {}

/** Opens microphone and camera, as asked, with one question to the user. */
export async function openDevices({ microphone, camera }) {
  if (!microphone && !camera) return new MediaStream();
  const wanted = microphone && camera ? "microphone and camera" : camera ? "camera" : "microphone";
  if (!navigator.mediaDevices) {
    throw new SourceError(
      `Browsers give the ${wanted} only to pages from https or localhost. ` +
        "Open this page that way, or choose an avatar and a sound file.",
    );
  }
  try {
    return await navigator.mediaDevices.getUserMedia({
      audio: microphone && MICROPHONE,
      video: camera && CAMERA,
    });
  } catch (error) {
    throw new SourceError(whatHappened(error, wanted, camera), { cause: error });
  }
}

function whatHappened(error, wanted, camera) {
  const was = wanted.includes(" and ") ? "were" : "was";
  const instead = camera ? "choose an avatar" : "choose a sound file";
  switch (error.name) {
    case "NotAllowedError":
    case "SecurityError":
      return (
        `The ${wanted} ${was} refused. Allow it beside the page's address, then press Start again, ` +
        `or ${instead}.`
      );
    case "NotFoundError":
    case "OverconstrainedError":
      return `No ${wanted} ${was} found. Connect one and press Start again, or ${instead}.`;
    case "NotReadableError":
    case "AbortError":
      return `The ${wanted} cannot be used: another program may hold it. Close that and press Start again.`;
    default:
      return `The ${wanted} could not be opened: ${error.message}`;
  }
}

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
      throw new SourceError(`“${file.name}” is no sound that this browser can play.`);
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
      this.#context = new AudioContext({ latencyHint: "interactive", sampleRate: 48_000 });
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
