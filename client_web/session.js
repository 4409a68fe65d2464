// One lip-sync session: a new connection, after growing pauses, whenever the old one is lost.

import { Connection } from "./connection.js";

const BACKOFF_S = [1, 2, 4, 8, 15];

/**
 * A session that outlives its connections.
 *
 * Events: the three of a connection, and "state" (detail: {state, why, waitS, full}) where state is
 * "connecting", "live", "waiting" (for `waitS` more seconds) or "ended" (for good).
 */
export class Session extends EventTarget {
  #source;
  #connection = null;
  #stopping = new AbortController();
  #running = Promise.resolve();

  /** @param source as `Connection.open` takes it */
  constructor(source) {
    super();
    this.#source = source;
  }

  start() {
    this.#running = this.#run();
  }

  /** Ends the session; resolves when the server has its place back. */
  async stop() {
    this.#stopping.abort();
    await this.#running;
  }

  async #run() {
    const { signal } = this.#stopping;
    let failures = 0;
    while (!signal.aborted) {
      this.#state("connecting");
      const connection = this.#connect();
      let why;
      let error = null;
      try {
        await connection.open(this.#source, signal);
        failures = 0;
        this.#state("live");
        why = await Promise.race([connection.lost, aborted(signal)]);
      } catch (caught) {
        error = caught;
        why = caught.message;
      }
      await connection.close();
      if (signal.aborted) return;
      if (error && !error.passing) {
        this.#state("ended", { why });
        return;
      }
      const waitS = error?.retryAfterS ?? BACKOFF_S[Math.min(failures, BACKOFF_S.length - 1)];
      failures += 1;
      await this.#wait(waitS, { why, full: Boolean(error?.full) });
    }
  }

  send(message) {
    this.#connection?.send(message);
  }

  #connect() {
    const connection = new Connection();
    for (const type of ["media", "message", "stats"]) {
      connection.addEventListener(type, ({ detail }) => this.#emit(type, detail));
    }
    this.#connection = connection;
    return connection;
  }

  async #wait(seconds, details) {
    const { signal } = this.#stopping;
    for (let waitS = seconds; waitS > 0 && !signal.aborted; waitS -= 1) {
      this.#state("waiting", { ...details, waitS });
      await Promise.race([new Promise((resolve) => setTimeout(resolve, 1_000)), aborted(signal)]);
    }
  }

  #state(state, details = {}) {
    if (!this.#stopping.signal.aborted) this.#emit("state", { state, ...details });
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

function aborted(signal) {
  return new Promise((resolve) => {
    if (signal.aborted) resolve("");
    signal.addEventListener("abort", () => resolve(""), { once: true });
  });
}
