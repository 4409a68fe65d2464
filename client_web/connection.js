// One WebRTC connection: offer and answer in one POST, and a data channel for control.

import { ServerError, request } from "./server.js";
import { authorization } from "./token.js";

const GATHER_LIMIT_MS = 2_000; // host candidates are there in a few ms; a broken interface must not hold up the rest
const CONNECT_LIMIT_MS = 12_000; // the server gives up after 10 s
const DISCONNECTED_LIMIT_MS = 3_000; // ICE often heals by itself within a second or two
const QUIET_MS = 1_800; // neither media nor a message from the server: something is wrong
const SILENT_LIMIT_MS = 5_000; // it will not come back by itself
const BLOCKED =
  "The server answers, but UDP between it and this computer seems to be blocked. Turn off a VPN or try " +
  "another network; who runs the server can look at its firewall.";
const NO_ADDRESS =
  "This browser offers no network address for calls: an extension or a policy may turn WebRTC off. Allow " +
  "it for this page, or use another browser.";
const STATS_EVERY_MS = 1_000;
const END_LIMIT_MS = 3_000;

/**
 * One peer connection, from offer to loss.
 *
 * Events: "media" (detail: MediaStream), "message" (detail: object from the server),
 * "stats" (detail: RTCStatsReport, once a second), "quiet" (detail: boolean) when nothing arrives, and
 * when something does again.
 */
export class Connection extends EventTarget {
  #peer = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
  #channel = this.#peer.createDataChannel("lipwire");
  #media = new MediaStream();
  #location = null;
  #resumeToken = null;
  #timer = 0;
  #heardAt = performance.now();
  #bytesReceived = 0;
  #quiet = false;
  #lose;
  #closing = null;

  constructor() {
    super();
    /** Seconds until the server wants to be asked again; undefined where it did not say. */
    this.retryAfterS = undefined;
    /** Resolves once the connection is of no more use. */
    this.lost = new Promise((resolve) => {
      this.#lose = resolve;
    });
    this.#peer.addEventListener("track", ({ track, receiver }) => this.#receive(track, receiver));
    this.#channel.addEventListener("message", ({ data }) => this.#hear(data));
    this.#channel.addEventListener("close", () => this.#lose());
  }

  /**
   * Connects; the sound and, in live mode, the camera travel from the start.
   *
   * @param {{mode: "avatar" | "live", avatar?: string, audio: MediaStreamTrack,
   *   video?: MediaStreamTrack}} source
   * @param {AbortSignal} signal
   * @param {Connection | null} lost the call of this one goes on, if the server still knows it
   */
  async open(source, signal, lost = null) {
    await this.#negotiate(source, lost);
    await this.#connected(signal);
    this.#heardAt = performance.now();
    this.#timer = setInterval(() => this.#poll(), STATS_EVERY_MS);
    this.#peer.addEventListener("connectionstatechange", () => this.#watch());
  }

  send(message) {
    if (this.#channel.readyState === "open") this.#channel.send(JSON.stringify(message));
  }

  /** Sends another track of the same kind from now on. */
  async replace(track) {
    const sender = this.#peer.getSenders().find((sender) => sender.track?.kind === track.kind);
    await sender?.replaceTrack(track);
  }

  /** Whether another connection can go on with this one's call. */
  get resumable() {
    return this.#location !== null && this.#resumeToken !== null;
  }

  /** Ends the session on both sides; resolves when the server has its place back. */
  close() {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** Lets go of the connection, but not of its session: another connection has it, or it is over. */
  drop() {
    this.#location = null;
    return this.close();
  }

  /** Measures nothing any more; the server is not told, so that the call can go on elsewhere. */
  leave() {
    clearInterval(this.#timer);
  }

  async #close() {
    clearInterval(this.#timer);
    try {
      // Before the peer closes, or the server would no longer know the session. `keepalive` lets
      // the request outlive the page.
      const signal = AbortSignal.timeout(END_LIMIT_MS);
      const options = { method: "DELETE", keepalive: true, headers: authorization(), signal };
      if (this.#location) await fetch(this.#location, options);
    } catch {
      // The server is gone; its media watchdog frees the session.
    }
    this.#peer.close();
  }

  async #negotiate({ mode, avatar, audio, video }, lost) {
    const answer = await request("/v1/ice-servers");
    const { ice_servers: iceServers } = await answer.json();
    this.#peer.setConfiguration({ bundlePolicy: "max-bundle", iceServers });
    this.#peer.addTransceiver(audio, { direction: "sendrecv" });
    this.#peer.addTransceiver(video ?? "video", { direction: video ? "sendrecv" : "recvonly" });
    await this.#peer.setLocalDescription();
    await this.#gathered();
    if (!this.#peer.localDescription.sdp.includes("a=candidate:")) throw noPath(NO_ADDRESS);
    const query = new URLSearchParams(mode === "avatar" ? { mode, avatar } : { mode });
    const response = await request(lost ? `${lost.#location}/resume` : `/v1/sessions?${query}`, {
      method: "POST",
      headers: {
        "content-type": "application/sdp",
        accept: "application/sdp",
        ...(lost && { "resume-token": lost.#resumeToken }),
      },
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
      const limit = setTimeout(() => reject(noPath(BLOCKED)), CONNECT_LIMIT_MS);
      const check = () => {
        const state = this.#peer.connectionState;
        if (state !== "connected" && state !== "failed" && state !== "closed") return;
        clearTimeout(limit);
        if (state === "connected") resolve();
        else reject(noPath(BLOCKED));
      };
      const stop = () => reject(signal.reason);
      if (signal.aborted) stop();
      signal.addEventListener("abort", stop, { once: true });
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
    if (message.type === "session.ready") this.#resumeToken = message.resume_token ?? null;
    // The server ends the call, and may have said for how long it takes no other.
    if (message.type === "error" && message.fatal && message.retry_after_ms != null) {
      this.retryAfterS = Math.ceil(message.retry_after_ms / 1_000);
    }
    this.#emit("message", message);
  }

  #watch() {
    const state = this.#peer.connectionState;
    if (state === "failed" || state === "closed") this.#lose();
    if (state !== "disconnected") return;
    setTimeout(() => {
      if (this.#peer.connectionState === "disconnected") this.#lose();
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
    const silentMs = performance.now() - this.#heardAt;
    if (silentMs > SILENT_LIMIT_MS) this.#lose();
    if (silentMs > QUIET_MS !== this.#quiet) {
      this.#quiet = !this.#quiet;
      this.#emit("quiet", this.#quiet);
    }
    this.#emit("stats", report);
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** Sound and picture cannot travel, though requests can. */
function noPath(why) {
  return new ServerError(why, { code: "no_path" });
}
