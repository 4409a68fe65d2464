// One lip-sync session over WebRTC: offer and answer in one POST, a data channel for control,
// and a new connection with growing pauses whenever the old one is lost.

const GATHER_LIMIT_MS = 2_000; // host candidates are there in a few ms; a broken interface must not hold up the rest
const ANSWER_LIMIT_MS = 8_000;
const CONNECT_LIMIT_MS = 12_000; // the server gives up after 10 s
const DISCONNECTED_LIMIT_MS = 3_000; // ICE often heals by itself within a second or two
const SILENT_LIMIT_MS = 6_000; // neither media nor a message from the server
const STATS_EVERY_MS = 1_000;
const END_LIMIT_MS = 3_000;
const BACKOFF_S = [1, 2, 4, 8, 15];

/** What the server answered instead of a session. */
export class ServerError extends Error {
  /**
   * @param {string} message a sentence for the user
   * @param {{status?: number, code?: string, retryAfterS?: number}} details
   */
  constructor(message, { status = 0, code = "", retryAfterS } = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfterS = retryAfterS;
  }

  /** Whether the same request may succeed later. */
  get passing() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }

  get full() {
    return this.code === "server_full";
  }
}

/** The avatars that the server has: [{name, title, poster, ...}]. */
export async function fetchAvatars() {
  const response = await request("/v1/avatars", { headers: { accept: "application/json" } });
  const body = await response.json();
  return Array.isArray(body) ? body : body.avatars;
}

async function request(url, options) {
  let response;
  try {
    response = await fetch(url, { ...options, signal: AbortSignal.timeout(ANSWER_LIMIT_MS) });
  } catch {
    throw new ServerError("The server does not answer.");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  let error = {};
  try {
    error = (await response.json()).error ?? {};
  } catch {
    // A proxy in between answers in HTML; the status has to do.
  }
  const message = error.message ? sentence(error.message) : `The server answered ${response.status}.`;
  const retryAfterS = Number.parseInt(response.headers.get("retry-after") ?? "", 10);
  return new ServerError(message, {
    status: response.status,
    code: error.code,
    retryAfterS: Number.isFinite(retryAfterS) ? retryAfterS : undefined,
  });
}

/** The server's errors begin small and end without a stop, as exceptions do. */
function sentence(text) {
  return text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}

/**
 * One peer connection, from offer to loss.
 *
 * Events: "media" (detail: MediaStream), "message" (detail: object from the server),
 * "stats" (detail: RTCStatsReport, once a second).
 */
class Connection extends EventTarget {
  #peer = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
  #channel = this.#peer.createDataChannel("lipwire");
  #media = new MediaStream();
  #location = null;
  #timer = 0;
  #heardAt = performance.now();
  #bytesReceived = 0;
  #lose;
  #closing = null;

  constructor() {
    super();
    /** Resolves with a sentence once the connection is of no more use. */
    this.lost = new Promise((resolve) => {
      this.#lose = resolve;
    });
    this.#peer.addEventListener("track", ({ track, receiver }) => this.#receive(track, receiver));
    this.#channel.addEventListener("message", ({ data }) => this.#hear(data));
    this.#channel.addEventListener("close", () => this.#lose("The server ended the session."));
  }

  /**
   * Connects; the sound and, in live mode, the camera travel from the start.
   *
   * @param {{mode: "avatar" | "live", avatar?: string, audio: MediaStreamTrack,
   *   video?: MediaStreamTrack}} source
   * @param {AbortSignal} signal
   */
  async open(source, signal) {
    await this.#negotiate(source);
    await this.#connected(signal);
    this.#heardAt = performance.now();
    this.#timer = setInterval(() => this.#poll(), STATS_EVERY_MS);
    this.#peer.addEventListener("connectionstatechange", () => this.#watch());
  }

  send(message) {
    if (this.#channel.readyState === "open") this.#channel.send(JSON.stringify(message));
  }

  /** Ends the session on both sides; resolves when the server has its place back. */
  close() {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close() {
    clearInterval(this.#timer);
    try {
      // Before the peer closes, or the server would no longer know the session. `keepalive` lets
      // the request outlive the page.
      const signal = AbortSignal.timeout(END_LIMIT_MS);
      if (this.#location) await fetch(this.#location, { method: "DELETE", keepalive: true, signal });
    } catch {
      // The server is gone; its media watchdog frees the session.
    }
    this.#peer.close();
  }

  async #negotiate({ mode, avatar, audio, video }) {
    this.#peer.addTransceiver(audio, { direction: "sendrecv" });
    this.#peer.addTransceiver(video ?? "video", { direction: video ? "sendrecv" : "recvonly" });
    await this.#peer.setLocalDescription();
    await this.#gathered();
    const query = new URLSearchParams(mode === "avatar" ? { mode, avatar } : { mode });
    const response = await request(`/v1/sessions?${query}`, {
      method: "POST",
      headers: { "content-type": "application/sdp", accept: "application/sdp" },
      body: this.#peer.localDescription.sdp,
      // Never given up half way: the answer names the session that is to be ended.
    });
    const location = response.headers.get("location");
    if (location) this.#location = new URL(location, response.url).href;
    await this.#peer.setRemoteDescription({ type: "answer", sdp: await response.text() });
  }

  #gathered() {
    return new Promise((resolve) => {
      const check = () => this.#peer.iceGatheringState === "complete" && resolve();
      this.#peer.addEventListener("icegatheringstatechange", check);
      setTimeout(resolve, GATHER_LIMIT_MS);
      check();
    });
  }

  #connected(signal) {
    return new Promise((resolve, reject) => {
      const fail = (why) => reject(new ServerError(why));
      const limit = setTimeout(
        () => fail("No path for sound and picture to the server: a firewall may be in the way."),
        CONNECT_LIMIT_MS,
      );
      const check = () => {
        const state = this.#peer.connectionState;
        if (state !== "connected" && state !== "failed" && state !== "closed") return;
        clearTimeout(limit);
        if (state === "connected") resolve();
        else fail("The connection could not be made.");
      };
      if (signal.aborted) fail("Stopped.");
      signal.addEventListener("abort", () => fail("Stopped."), { once: true });
      this.#peer.addEventListener("connectionstatechange", check);
      check();
    });
  }

  #receive(track, receiver) {
    // Smoothness is the server's playout clock's task; the browser need not add to the delay.
    if ("jitterBufferTarget" in receiver) receiver.jitterBufferTarget = 0;
    else if ("playoutDelayHint" in receiver) receiver.playoutDelayHint = 0;
    this.#media.addTrack(track);
    this.#emit("media", this.#media);
  }

  #hear(data) {
    this.#heardAt = performance.now();
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return; // not ours: the protocol is JSON only
    }
    this.#emit("message", message);
  }

  #watch() {
    const state = this.#peer.connectionState;
    if (state === "failed" || state === "closed") this.#lose("The connection was lost.");
    if (state !== "disconnected") return;
    setTimeout(() => {
      if (this.#peer.connectionState === "disconnected") this.#lose("The connection was lost.");
    }, DISCONNECTED_LIMIT_MS);
  }

  async #poll() {
    const report = await this.#peer.getStats();
    if (this.#closing) return;
    let bytesReceived = 0;
    for (const entry of report.values()) {
      if (entry.type === "inbound-rtp") bytesReceived += entry.bytesReceived ?? 0;
    }
    if (bytesReceived !== this.#bytesReceived) this.#heardAt = performance.now();
    this.#bytesReceived = bytesReceived;
    if (performance.now() - this.#heardAt > SILENT_LIMIT_MS) this.#lose("The server fell silent.");
    this.#emit("stats", report);
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

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
