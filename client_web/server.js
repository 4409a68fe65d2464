// The server over HTTP: requests with a limit, and its errors as sentences for the user.

const ANSWER_LIMIT_MS = 8_000;

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

export async function request(url, options) {
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
