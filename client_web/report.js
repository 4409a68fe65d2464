// The figures as JSON for a bug report: no names, no pictures, no secrets.

import { fetchStatus } from "./server.js";

/**
 * Everything that helps to understand a call from afar.
 *
 * @param {{state: string, ready: object | null, record: object, tracks: MediaStreamTrack[]}} call
 * @returns {Promise<string>} JSON
 */
export async function makeReport({ state, ready, record, tracks }) {
  const status = await fetchStatus().catch((error) => ({ error: error.message }));
  return JSON.stringify(
    {
      made: new Date().toISOString(),
      browser: navigator.userAgent,
      page: { secure: isSecureContext, online: navigator.onLine, state },
      session: ready && withoutSecrets(ready),
      status,
      sources: tracks.map(describe),
      ...record,
    },
    (_, value) => (typeof value === "number" ? Math.round(100 * value) / 100 : value),
    2,
  );
}

/** Copies a text; where the browser forbids that (no https), it becomes a file to save instead. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return "Copied.";
  } catch {
    const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    Object.assign(document.createElement("a"), {
      href: url,
      download: "lipwire-figures.json",
    }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
    return "Saved as lipwire-figures.json.";
  }
}

/** The greeting without what would let a reader take the call over. */
function withoutSecrets({ resume_token: _, ...rest }) {
  return rest;
}

/** Device names and ids can tell who somebody is; the settings cannot. */
function describe(track) {
  const { deviceId: _, groupId: __, ...settings } = track.getSettings();
  return { kind: track.kind, enabled: track.enabled, state: track.readyState, ...settings };
}
