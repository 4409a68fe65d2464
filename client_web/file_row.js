// The sound file's place in the panel: choose or drop one, play, pause, move within it.

import { FilePlayer } from "./file_player.js";

const $ = (id) => document.getElementById(id);

/**
 * The row.
 *
 * Events: "file" when another file is ready, "refused" (detail: Error) when it is no sound.
 */
export class FileRow extends EventTarget {
  player = new FilePlayer();

  constructor() {
    super();
    $("file").addEventListener("change", ({ target }) => this.#take(target.files[0]));
    $("file-row").addEventListener("dragover", (event) => event.preventDefault());
    $("file-row").addEventListener("drop", (event) => {
      event.preventDefault();
      this.#take(event.dataTransfer.files[0]);
    });
    $("file-toggle").addEventListener("click", () => {
      if (this.player.playing) this.player.pause();
      else this.player.play().catch((error) => this.#refuse(error));
    });
    $("file-seek").addEventListener("input", ({ target }) =>
      this.player.seek(Number(target.value)),
    );
    this.player.addEventListener("change", () => this.#show());
  }

  /** Whether the row is there, and whether a file can be played just now. */
  show({ visible, playable }) {
    $("file-row").hidden = !visible;
    $("file-toggle").disabled = !playable;
  }

  focus() {
    $("file").focus();
  }

  async #take(file) {
    if (!file) return;
    $("file-name").textContent = file.name;
    try {
      await this.player.load(file);
    } catch (error) {
      $("file-play").hidden = true;
      this.#refuse(error);
      return;
    }
    $("file-play").hidden = false;
    this.#show();
    this.dispatchEvent(new Event("file"));
  }

  #refuse(error) {
    this.dispatchEvent(new CustomEvent("refused", { detail: error }));
  }

  #show() {
    const { positionS, durationS, playing } = this.player;
    const seek = $("file-seek");
    seek.max = String(durationS || 1);
    seek.value = String(positionS);
    seek.setAttribute("aria-valuetext", `${clock(positionS)} of ${clock(durationS)}`);
    $("file-time").textContent = `${clock(positionS)} / ${clock(durationS)}`;
    $("file-toggle").setAttribute("aria-label", playing ? "Pause" : "Play");
    $("file-toggle").classList.toggle("is-playing", playing);
  }
}

const clock = (seconds) =>
  `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
