// One lip-sync session: another connection, after growing pauses, whenever one is lost.

import { Connection } from "./connection.js";

const BACKOFF_S = [1, 2, 4, 8, 15];
const OVER = [404, 409]; // what a server answers that no longer knows the call

/**
 * A session that outlives its connections. The server's side of it goes on as well where the page is
 * back within the time that `session.ready` promised; else it begins anew.
 *
 * Events: the four of a connection, and "state" with a detail of
 * {state: "connecting", again}: `again` when there was a connection before;
 * {state: "live"};
 * {state: "waiting", waitS, error, again}: for `waitS` more seconds, because of `error`, which is null
 * when a connection was lost;
 * {state: "ended", error}: for good.
 */
export class Session extends EventTarget {
  #source;
  #connection = null;
  #stopping = new AbortController();
  #running = Promise.resolve();
  #hurry = null;
  #wasLive = false;

  /** @param source as `Connection.open` takes it */
  constructor(source) {
    super();
    this.#source = { ...source };
  }

  start() {
    this.#running = this.#run();
    // The network is back: no reason to wait any longer.
    window.addEventListener("online", () => this.retryNow(), { signal: this.#stopping.signal });
  }

  /** Ends the session; resolves when the server has its place back. */
  async stop() {
    this.#stopping.abort();
    await this.#running;
  }

  /** Ends a pause before the next try. */
  retryNow() {
    this.#hurry?.();
  }

  send(message) {
    this.#connection?.send(message);
  }

  /** Sends another track of the same kind from now on. */
  async replace(track) {
    this.#source[track.kind] = track;
    await this.#connection?.replace(track);
  }

  async #run() {
    const { signal } = this.#stopping;
    let failures = 0;
    let lost = null; // a connection whose call may go on
    while (!signal.aborted) {
      this.#state("connecting", { again: this.#wasLive });
      const connection = this.#connect();
      let error = null;
      try {
        await connection.open(this.#source, signal, lost);
        lost?.drop();
        lost = null;
        failures = 0;
        this.#wasLive = true;
        this.#state("live");
        await Promise.race([connection.lost, aborted(signal)]);
      } catch (caught) {
        error = caught;
      }
      if (lost && OVER.includes(error.status)) {
        lost.drop();
        connection.drop();
        lost = null;
        continue;
      }
      let closed = null; // the pause does not wait for the server to hear of the end
      if (lost)
        connection.drop(); // the lost one can still be gone on with
      else if (!error && connection.resumable && !signal.aborted) {
        connection.leave();
        lost = connection;
      } else closed = connection.close();
      if (signal.aborted || (error && !error.passing)) {
        await Promise.all([closed, lost?.close()]);
        this.#state("ended", { error });
        return;
      }
      await this.#wait(
        error?.retryAfterS ??
          connection.retryAfterS ??
          BACKOFF_S[Math.min(failures, BACKOFF_S.length - 1)],
        error,
      );
      failures += 1;
      await closed;
    }
    await lost?.close();
  }

  #connect() {
    const connection = new Connection();
    for (const type of ["media", "message", "stats", "quiet"]) {
      connection.addEventListener(type, ({ detail }) => this.#emit(type, detail));
    }
    this.#connection = connection;
    return connection;
  }

  async #wait(seconds, error) {
    const { signal } = this.#stopping;
    let hurried = false;
    const hurry = new Promise((resolve) => {
      this.#hurry = () => {
        hurried = true;
        resolve();
      };
    });
    for (let waitS = seconds; waitS > 0 && !hurried && !signal.aborted; waitS -= 1) {
      this.#state("waiting", { error, waitS, again: this.#wasLive });
      const second = new Promise((resolve) => setTimeout(resolve, 1_000));
      await Promise.race([second, hurry, aborted(signal)]);
    }
    this.#hurry = null;
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
    if (signal.aborted) resolve();
    signal.addEventListener("abort", resolve, { once: true });
  });
}
