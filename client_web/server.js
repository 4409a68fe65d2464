// The server over HTTP: requests with a limit, and its errors as sentences for the user.

import { sentence } from "./situations.js";
import { authorization, hasToken } from "./token.js";

const ANSWER_LIMIT_MS = 8_000;

/** What the server answered instead of what was asked for. */
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

  get unauthorized() {
    return this.status === 401;
  }
}

/** The avatars that the server has: {avatars: [{name, title, poster, ...}], uploads, max_upload_mb}. */
export async function fetchAvatars() {
  return (await request("/v1/avatars", { headers: { accept: "application/json" } })).json();
}

/** What runs there and how busy it is: {version, engine, sessions}. */
export async function fetchStatus() {
  return (await request("/v1/status", { headers: { accept: "application/json" } })).json();
}

/**
 * The answer to a request that succeeded.
 *
 * @throws {ServerError} none came in time, or it was a refusal
 */
export async function request(url, { headers, ...options } = {}) {
  let response;
  try {
    response = await fetch(url, {
      signal: AbortSignal.timeout(ANSWER_LIMIT_MS),
      headers: { ...headers, ...authorization() },
      ...options,
    });
  } catch {
    throw unreachable();
  }
  if (!response.ok) {
    throw refusal(response.status, await response.text(), response.headers.get("retry-after"));
  }
  return response;
}

/** The error of a request that nobody answered. */
export function unreachable() {
  return new ServerError(
    navigator.onLine === false
      ? "This computer is offline."
      : "It may be starting again, or the network is down.",
  );
}

/** The error of a request that was refused, in the server's own words where it gave any. */
export function refusal(status, body, retryAfter) {
  let error = {};
  try {
    error = JSON.parse(body).error ?? {};
  } catch {
    // A proxy in between answers in HTML; the status has to do.
  }
  let message = error.message ? sentence(error.message) : `The server answered ${status}.`;
  // Which header is missing is no news for people.
  if (error.code === "no_token") message = "This server asks for a token.";
  if (status === 401) message += ` ${whatToDoAboutTheToken()}`;
  const retryAfterS = Number.parseInt(retryAfter ?? "", 10);
  return new ServerError(message, {
    status,
    code: error.code,
    retryAfterS: Number.isFinite(retryAfterS) ? retryAfterS : undefined,
  });
}

function whatToDoAboutTheToken() {
  return hasToken()
    ? "Ask for a new link to this page."
    : "Open this page by the link that you were given; it ends in #token= and a long word.";
}
