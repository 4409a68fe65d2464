// The large picture and what is said over it: the state, a card when something is in the way,
// a line when something happens in a call.

const $ = (id) => document.getElementById(id);
const root = document.documentElement;
const synced = $("synced");
const last = $("last");

const STATES = {
  idle: "Ready",
  asking: "Waiting for permission",
  connecting: "Connecting",
  again: "Connecting again",
  waiting: "Connection lost",
  full: "Server is full",
  live: "Live",
};
const TOAST_MS = 8_000;

/**
 * The stage.
 *
 * Events: "act" when the card's button is pressed.
 */
export class Stage extends EventTarget {
  #toastTimer = 0;

  constructor() {
    super();
    synced.addEventListener("playing", () => this.#playing());
    $("card-act").addEventListener("click", () => this.dispatchEvent(new Event("act")));
    $("card-close").addEventListener("click", () => this.clearCard());
  }

  /** One of the keys of STATES. */
  get state() {
    return root.dataset.state;
  }

  /**
   * Shows a state and a hint of what to do in it.
   *
   * @param {keyof STATES} state
   * @param {string} hint may be empty
   */
  show(state, hint) {
    root.dataset.state = state;
    if ($("state").textContent !== STATES[state]) $("state").textContent = STATES[state];
    document.title = state === "idle" ? "Lipwire" : `${STATES[state]} – Lipwire`;
    if (state !== "live") delete root.dataset.picture;
    this.hint(hint);
  }

  hint(text) {
    $("hint").textContent = text;
  }

  /** Whether the synced picture is there. */
  get playing() {
    return "picture" in root.dataset;
  }

  /** Puts a picture under the synced one, or nothing. */
  poster(url) {
    for (const image of [$("still"), $("ambience")]) {
      if (url) image.src = url;
      image.hidden = !url;
    }
  }

  /** Keeps the last picture that was shown, dimmed, until the next one comes. */
  freeze() {
    if (!this.playing || !synced.videoWidth) return;
    last.width = synced.videoWidth;
    last.height = synced.videoHeight;
    last.getContext("2d").drawImage(synced, 0, 0);
    last.hidden = false;
  }

  /** Lets go of the last picture. */
  thaw() {
    last.hidden = true;
  }

  /**
   * Says what is in the way.
   *
   * @param {{title: string, text: string, countdown?: string, button?: string}} what `countdown`
   *   changes every second and is not read out; `button`: what can be done about it at once
   */
  card({ title, text, countdown = "", button = "" }) {
    // A live region that is given the same words again would be read again.
    if ($("card-title").textContent !== title) $("card-title").textContent = title;
    if ($("card-text").textContent !== text) $("card-text").textContent = text;
    $("countdown").textContent = countdown;
    $("card-act").textContent = button;
    $("card-row").hidden = !button;
    $("card-close").hidden = Boolean(button);
    $("card").hidden = false;
  }

  clearCard() {
    $("card").hidden = true;
    $("card-title").textContent = $("card-text").textContent = "";
  }

  /** Tells of something that happened; it goes away by itself, or with `toast("")`. */
  toast(text, { stays = false } = {}) {
    clearTimeout(this.#toastTimer);
    if ($("toast").textContent !== text) $("toast").textContent = text;
    $("toast").hidden = !text;
    if (text && !stays) this.#toastTimer = setTimeout(() => this.toast(""), TOAST_MS);
  }

  #playing() {
    if (this.state !== "live" && this.state !== "connecting" && this.state !== "again") return;
    root.dataset.picture = "";
    this.thaw();
    this.hint("");
  }
}
