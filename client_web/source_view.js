// What the devices give, as the user sees it: the level, the own picture, and a test before the call.

import { LevelMeter } from "./level.js";

const $ = (id) => document.getElementById(id);

const camera = $("camera");

/** The level meter, the camera's own picture and the button that tests both. */
export class SourceView {
  #devices;
  #level = new LevelMeter($("level"), $("level-word"));
  #testing = false;

  /** @param {import("./devices.js").Devices} devices */
  constructor(devices) {
    this.#devices = devices;
  }

  /** Whether the devices are open without a call. */
  get testing() {
    return this.#testing;
  }

  set testing(testing) {
    this.#testing = testing;
    $("test").setAttribute("aria-pressed", String(testing));
    $("test").textContent = testing ? "Stop test" : "Test";
  }

  /**
   * Shows what is open.
   *
   * @param {MediaStreamTrack | null} audio what is sent, else the microphone is shown
   */
  show(audio = null) {
    const heard = audio ?? this.#devices.track("microphone");
    const video = this.#devices.track("camera");
    if (heard) this.#level.start(heard);
    else this.#level.stop();
    camera.srcObject = video && new MediaStream([video]);
    camera.hidden = !video;
    if (video) camera.play().catch(() => {}); // its picture is not worth an error
  }

  close() {
    this.#level.stop();
    camera.srcObject = null;
    camera.hidden = true;
  }

  /**
   * Opens the devices without a call.
   *
   * @param {{microphone: boolean, camera: boolean}} asked
   * @throws {SourceError} it says what the user can do
   */
  async test(asked) {
    this.testing = true;
    try {
      if (await this.#devices.open(asked)) this.show();
    } catch (error) {
      this.endTest();
      throw error;
    }
  }

  /** Closes them again. */
  endTest() {
    this.testing = false;
    this.#devices.release();
    this.close();
  }
}
