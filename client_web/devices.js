// Microphone, camera and speaker: which there are, which is chosen, and what is open.

import { keep, recall } from "./choices.js";
import { explain, insecure } from "./refusals.js";

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
const KINDS = { microphone: "audioinput", camera: "videoinput", speaker: "audiooutput" };
const ALIASES = ["", "default", "communications"]; // what Chromium lists beside the devices themselves

/**
 * The user's devices.
 *
 * Events: "list" when the lists may have changed; "track" (detail: {kind, track, lost}) when another
 * track takes the place of an open one, `lost` being the name of a device that went away; "kept"
 * (detail: {kind, error}) when a chosen device could not be opened and the one before was taken again;
 * "gone" (detail: {kind, lost, error}) when nothing could take its place; "silenced" (detail: {kind,
 * silenced}) when the system turns an open device off or on again; "speaker" (detail: {id, lost}).
 */
export class Devices extends EventTarget {
  #lists = { microphone: [], camera: [], speaker: [] };
  #chosen = { microphone: "", camera: "", speaker: "" };
  #tracks = { microphone: null, camera: null };
  #speaker = { id: "", label: "" }; // the one in use
  #run = 0; // counts releases, so that what the browser opens after one is closed at once
  #asking = Promise.resolve(); // one question to the browser at a time: no track is opened twice

  constructor() {
    super();
    for (const kind of Object.keys(KINDS)) this.#chosen[kind] = recall(kind) ?? "";
    navigator.mediaDevices?.addEventListener("devicechange", () => this.refresh());
  }

  /** The devices of a kind, [{id, label}]; empty before the user has allowed one. */
  list(kind) {
    return this.#lists[kind];
  }

  /** The id of the chosen device, "" for the default. */
  chosen(kind) {
    return this.#has(kind, this.#chosen[kind]) ? this.#chosen[kind] : "";
  }

  /** The open track of "microphone" or "camera", or null. */
  track(kind) {
    return this.#tracks[kind];
  }

  /** Reads the lists again. */
  async refresh() {
    const found = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
    for (const [kind, type] of Object.entries(KINDS)) {
      this.#lists[kind] = found
        .filter(
          (device) => device.kind === type && device.label && !ALIASES.includes(device.deviceId),
        )
        .map(({ deviceId, label }) => ({ id: deviceId, label }));
    }
    this.#applySpeaker();
    this.dispatchEvent(new Event("list"));
  }

  /** Takes another device, in the middle of a call too. */
  async choose(kind, id) {
    const before = this.#chosen[kind];
    this.#chosen[kind] = id;
    keep(kind, id);
    if (kind === "speaker") this.#applySpeaker();
    else
      await this.#inTurn(async () => {
        if (this.#tracks[kind] && this.#chosen[kind] === id) await this.#switch(kind, before);
      });
  }

  /**
   * Opens what is asked for, with one question to the user, and closes the rest.
   *
   * @param {{microphone: boolean, camera: boolean}} asked
   * @returns {Promise<boolean>} false: everything was released meanwhile
   * @throws {SourceError} it says what the user can do
   */
  open(asked) {
    const run = this.#run;
    return this.#inTurn(() => run === this.#run && this.#open(asked, run));
  }

  /** Closes everything. */
  release() {
    this.#run += 1;
    this.#close("microphone");
    this.#close("camera");
  }

  /** Does something with devices once what was asked for before has been answered. */
  #inTurn(work) {
    const done = this.#asking.then(work);
    this.#asking = done.catch(() => {}); // the caller hears of it
    return done;
  }

  async #open(asked, run) {
    for (const kind of ["microphone", "camera"]) if (!asked[kind]) this.#close(kind);
    const missing = {
      microphone: asked.microphone && !this.#tracks.microphone,
      camera: asked.camera && !this.#tracks.camera,
    };
    if (!missing.microphone && !missing.camera) return true;
    const tracks = await this.#ask(missing);
    if (run !== this.#run) {
      for (const track of tracks) track.stop();
      return false;
    }
    for (const track of tracks) this.#adopt(track);
    await this.refresh(); // the labels are known from now on
    return run === this.#run;
  }

  async #ask(asked) {
    if (!navigator.mediaDevices) throw insecure(asked);
    try {
      const stream = await navigator.mediaDevices.getUserMedia({
        audio: asked.microphone && { ...MICROPHONE, ...this.#exactly("microphone") },
        video: asked.camera && { ...CAMERA, ...this.#exactly("camera") },
      });
      return stream.getTracks();
    } catch (error) {
      throw await explain(error, asked);
    }
  }

  #exactly(kind) {
    const id = this.chosen(kind);
    return id && { deviceId: { exact: id } };
  }

  #has(kind, id) {
    return this.#lists[kind].some((device) => device.id === id);
  }

  #adopt(track) {
    const kind = track.kind === "audio" ? "microphone" : "camera";
    this.#tracks[kind] = track;
    track.addEventListener("ended", () => {
      if (this.#tracks[kind] === track) this.#fallBack(kind, track.label);
    });
    for (const type of ["mute", "unmute"]) {
      track.addEventListener(type, () => {
        if (this.#tracks[kind] === track) this.#emit("silenced", { kind, silenced: track.muted });
      });
    }
  }

  /** The device was unplugged: the default takes its place; the choice stays for the next visit. */
  async #fallBack(kind, lost) {
    const run = this.#run;
    this.#chosen[kind] = "";
    this.#close(kind);
    await this.refresh();
    await this.#inTurn(async () => {
      if (run !== this.#run) return;
      try {
        await this.#reopen(kind, lost);
      } catch (error) {
        if (run === this.#run) this.#emit("gone", { kind, lost, error });
      }
    });
  }

  /** Opens the chosen device in place of another; if it cannot be had, that one again. */
  async #switch(kind, before) {
    const run = this.#run;
    const wanted = this.#chosen[kind];
    try {
      await this.#reopen(kind, "");
    } catch (refused) {
      if (run !== this.#run) return;
      if (this.#chosen[kind] === wanted) {
        this.#chosen[kind] = before;
        keep(kind, before);
      }
      try {
        await this.#reopen(kind, "");
        this.#emit("kept", { kind, error: refused });
      } catch (error) {
        if (run === this.#run) this.#emit("gone", { kind, lost: "", error });
      }
    }
  }

  async #reopen(kind, lost) {
    const run = this.#run;
    this.#close(kind); // first: many a machine opens a camera only once
    const [track] = await this.#ask({
      microphone: kind === "microphone",
      camera: kind === "camera",
    });
    if (run !== this.#run) track.stop();
    else {
      this.#adopt(track);
      this.#emit("track", { kind, track, lost });
      await this.refresh();
    }
  }

  /** The speaker has no track that would end: the list tells when it went away. */
  #applySpeaker() {
    const id = this.chosen("speaker");
    if (id === this.#speaker.id) return;
    const lost =
      this.#has("speaker", this.#speaker.id) || !this.#speaker.id ? "" : this.#speaker.label;
    this.#speaker = this.#lists.speaker.find((device) => device.id === id) ?? { id: "", label: "" };
    this.#emit("speaker", { id, lost });
  }

  #close(kind) {
    this.#tracks[kind]?.stop();
    this.#tracks[kind] = null;
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
