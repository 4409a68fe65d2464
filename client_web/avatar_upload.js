// Adds an avatar from a picture or clip: the dialog, the upload, and the server's work on it.

import { refusal, request, unreachable } from "./server.js";
import { sentence } from "./situations.js";
import { authorization } from "./token.js";

const $ = (id) => document.getElementById(id);

const POLL_MS = 400;
const MIB = 2 ** 20;
const dialog = $("upload");
let settle = null; // ends the upload that is under way

/**
 * Asks for a name, sends the file and waits until the server has made an avatar of it.
 *
 * @param {File} file
 * @param {number} limitMiB the largest file that the server takes
 * @returns {Promise<string | null>} the avatar's name, or null when the user thought better of it
 */
export function uploadAvatar(file, limitMiB) {
  settle?.(null);
  const giveUp = new AbortController();
  const { signal } = giveUp;
  return new Promise((resolve) => {
    const preview = show(file);
    $("upload-form").addEventListener("submit", (event) => send(event), { signal });
    $("upload-cancel").addEventListener("click", () => dialog.close(), { signal });
    // Escape closes it too. The event may come when the dialog is open again, for the next file.
    dialog.addEventListener("close", () => dialog.open || end(null), { signal });
    settle = end;
    if (file.size > limitMiB * MIB) {
      showRefusal(tooLarge(file.size / MIB, limitMiB));
      $("upload-go").disabled = true;
    }
    dialog.showModal();
    $("upload-name").select();

    async function send(event) {
      event.preventDefault();
      const name = $("upload-name").value;
      showRefusal("");
      showBusy(true);
      try {
        const job = await post(file, name, signal);
        await finish(job, signal);
        end(name);
      } catch (error) {
        if (signal.aborted) return;
        showBusy(false);
        showRefusal(error.message);
      }
    }

    function end(name) {
      settle = null;
      giveUp.abort();
      URL.revokeObjectURL(preview);
      dialog.close();
      resolve(name);
    }
  });
}

function show(file) {
  const url = URL.createObjectURL(file);
  const picture = file.type.startsWith("video/")
    ? Object.assign(document.createElement("video"), { muted: true, loop: true, autoplay: true })
    : Object.assign(new Image(), { alt: "" });
  picture.src = url;
  $("upload-preview").replaceChildren(picture);
  $("upload-name").value = nameOf(file);
  showRefusal("");
  showBusy(false);
  return url;
}

/** A name for an avatar, from its file's. */
function nameOf(file) {
  const plain = file.name
    .replace(/\.[^.]*$/, "")
    .normalize("NFKD")
    .replace(/\p{M}/gu, "");
  return plain
    .replace(/[^A-Za-z0-9_-]+/g, "-")
    .replace(/^[-_]+|[-_]+$/g, "")
    .slice(0, 64)
    .toLowerCase();
}

function tooLarge(sizeMiB, limitMiB) {
  return `This file has ${Math.ceil(sizeMiB)} MiB; the server takes at most ${limitMiB} MiB.`;
}

function showBusy(busy) {
  $("upload-progress").hidden = !busy;
  $("upload-go").disabled = $("upload-name").disabled = busy;
  if (busy) showProgress("Sending.", 0);
}

function showProgress(words, percent) {
  if (percent === null) $("upload-bar").removeAttribute("value");
  else $("upload-bar").value = percent;
  if ($("upload-words").textContent !== words) $("upload-words").textContent = words;
}

function showRefusal(message) {
  $("upload-error").textContent = message;
  $("upload-error").hidden = !message;
}

/** Sends the file; resolves with the address of the server's work on it. fetch tells no progress. */
function post(file, name, signal) {
  return new Promise((resolve, reject) => {
    const sending = new XMLHttpRequest();
    sending.open("POST", `/v1/avatars?${new URLSearchParams({ name })}`);
    sending.setRequestHeader("content-type", file.type || "application/octet-stream");
    for (const [header, value] of Object.entries(authorization()))
      sending.setRequestHeader(header, value);
    sending.upload.addEventListener("progress", ({ loaded, total }) => {
      showProgress("Sending.", (100 * loaded) / total);
    });
    sending.upload.addEventListener("load", () => showProgress("Waiting for the server.", null));
    sending.addEventListener("load", () => {
      const { status, responseText } = sending;
      if (status === 202) resolve(JSON.parse(responseText).job);
      else reject(refusal(status, responseText, sending.getResponseHeader("retry-after")));
    });
    sending.addEventListener("error", () => reject(unreachable()));
    signal.addEventListener("abort", () => sending.abort(), { once: true });
    sending.send(file);
  });
}

/** Shows how far the server is; resolves when the avatar is there. */
async function finish(job, signal) {
  while (!signal.aborted) {
    const answer = await request(`/v1/avatars/jobs/${encodeURIComponent(job)}`);
    const { state, percent, message } = await answer.json();
    if (state === "done") return;
    if (state === "failed") throw new Error(sentence(message));
    showProgress(message ? sentence(message) : "The server looks at it.", percent ?? null);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
