// What the page says in each situation.

const TRY_NOW = "Try now";

/** What to do next, over the picture; "" where nothing needs saying. */
export function hintFor(state, { file, camera }) {
  const may = [!file && "listen", camera && "see you"].filter(Boolean).join(" and ");
  const who = camera ? "your own face" : "the face";
  switch (state) {
    case "idle":
      return `Press Start: ${file ? "the file plays and" : "speak and"} ${who} says it.`;
    case "asking":
      return may && `Your browser asks whether this page may ${may}.`;
    case "connecting":
      return "Connecting…";
    case "live":
      return `Connected: ${file ? "the file plays" : "speak"}.`;
    default:
      return "";
  }
}

/**
 * The card for an error that ended a call or kept it from beginning.
 *
 * @param {Error & {title?: string, code?: string, unauthorized?: boolean}} error
 */
export function cardFor(error) {
  return { title: error.title ?? titleOf(error), text: sentence(error.message) };
}

/**
 * The card while the page waits before it tries again.
 *
 * @param {{error: Error | null, waitS: number, again: boolean}} pause no error: a connection was lost;
 *   `again`: there was one before
 */
export function waitingCard({ error, waitS, again }) {
  const countdown = `Trying again in ${waitS} s`;
  const unreachable = error?.status === 0 && !error.code;
  if (error && !(again && unreachable)) return { ...cardFor(error), countdown, button: TRY_NOW };
  const text =
    navigator.onLine === false
      ? "This computer is offline. The call goes on when the network is back."
      : "The call goes on by itself as soon as the server can be reached.";
  return { title: "Connection lost", text, countdown, button: TRY_NOW };
}

/** The card while the page tries again: the same words, so that nothing is read out twice. */
export const tryingCard = (card) => ({ ...card, countdown: "Trying…" });

/** The card while the browser plays nothing before a click. */
export const blockedCard = {
  title: "Your browser waits for a click",
  text: "It does not play sound by itself on this page.",
  button: "Play",
};

/** What a server says before it restarts. */
export function draining({ seconds }) {
  return `The server restarts within ${Math.ceil(seconds)} s; this page then connects again by itself.`;
}

/** What happened to a device in a call. */
export function unplugged(kind, name) {
  return `“${name}” was unplugged; the default ${kind} is used now.`;
}

/** What the system did to an open microphone or camera, behind the page's back. */
export function silenced(kind) {
  return `The system has turned the ${kind} off: nothing of it is sent.`;
}

/** A device that was chosen in a call and could not be had. */
export function kept(error) {
  return `${error.title}; the one before is used again.`;
}

function titleOf({ code, status, unauthorized }) {
  if (unauthorized) return "No access";
  switch (code) {
    case "scope":
    case "origin":
      return "Not allowed";
    case "server_full":
      return "All places are taken";
    case "engine_not_ready":
      return "The server is starting";
    case "draining":
      return "The server is about to restart";
    case "client_sessions":
      return "Too many calls from here";
    case "client_rate":
      return "Too many tries from here";
    case "no_path":
      return "Sound and picture cannot get through";
    default:
      return status === 0 ? "The server does not answer" : "The call cannot go on";
  }
}

/** The server's errors begin small and end without a stop, as exceptions do. */
export function sentence(text) {
  return text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}
