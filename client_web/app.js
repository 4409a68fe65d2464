// The page: what the user chose becomes a call, and what happens in the call is shown.

import { confirmRemoval } from "./avatar_removal.js";
import { uploadAvatar } from "./avatar_upload.js";
import { Call } from "./call.js";
import { keep, recall } from "./choices.js";
import { connectPickers } from "./device_pickers.js";
import { Devices } from "./devices.js";
import { CAMERA, Faces, posterOf } from "./faces.js";
import { Figures } from "./figures.js";
import { FileRow } from "./file_row.js";
import { LatencyMeter } from "./latency.js";
import { SourceError } from "./refusals.js";
import { copy, makeReport } from "./report.js";
import { fetchAvatars, fetchStatus } from "./server.js";
import { listenForShortcuts } from "./shortcuts.js";
import {
  blockedCard,
  cardFor,
  draining,
  hintFor,
  kept,
  silenced,
  tryingCard,
  unplugged,
  waitingCard,
} from "./situations.js";
import { SourceView } from "./source_view.js";
import { Stage } from "./stage.js";

const AVATARS_RETRY_MS = 3_000;
const BUILDING_MS = 5_000; // between two looks while the server builds a plan

const $ = (id) => document.getElementById(id);
const panel = $("panel");
const synced = $("synced");
const stage = new Stage();
const figures = new Figures();
const faces = new Faces();
const fileRow = new FileRow();
const devices = new Devices();
const call = new Call(devices, fileRow.player);
const latency = new LatencyMeter(synced);
const sources = new SourceView(devices);

let lost = false; // since the last greeting
let aboutServer = 0; // the timer of the next look at what runs there
let uploadLimitMiB = 0;
let waiting = null; // the card while the page waits to try again

const chosen = () => ({
  file: panel.elements.voice.value === "file",
  camera: faces.chosen === CAMERA,
});
const idle = () => stage.state === "idle";

// The call

function start() {
  const { file, camera } = chosen();
  if (!faces.chosen) {
    showAvatars(); // the list was refused; a token may be there by now
    return;
  }
  if (file && !fileRow.player.loaded) {
    stage.card({ title: "No sound file yet", text: "Choose one, or speak into the microphone." });
    fileRow.focus();
    return;
  }
  stage.clearCard();
  sources.testing = false; // what the test opened goes into the call
  call.start({ avatar: camera ? null : faces.chosen, file });
}

function restart() {
  call.stop();
  start();
}

async function play() {
  try {
    await synced.play();
    if (stage.state === "live") stage.clearCard();
  } catch (error) {
    // Anything else: the next picture is on its way.
    if (error.name === "NotAllowedError" && stage.state === "live") stage.card(blockedCard);
  }
}

call.addEventListener("opened", () => sources.show(call.audio));
call.addEventListener("media", ({ detail }) => {
  if (synced.srcObject !== detail) synced.srcObject = detail;
  play();
});
call.addEventListener("stats", ({ detail }) => figures.showSecond(latency.measure(detail)));
call.addEventListener("refused", ({ detail }) => stage.card(cardFor(detail)));
call.addEventListener("quiet", ({ detail: quiet }) =>
  stage.toast(quiet ? "Nothing has arrived from the server for two seconds." : "", { stays: true }),
);
call.addEventListener("state", ({ detail }) => {
  switch (detail.state) {
    case "idle":
      waiting = null;
      lost = false;
      latency.stop();
      sources.close();
      synced.srcObject = null;
      figures.clear();
      stage.thaw();
      stage.clearCard();
      stage.toast("");
      show("idle");
      break;
    case "connecting":
      show(detail.again ? "again" : "connecting");
      if (waiting) stage.card(tryingCard(waiting));
      break;
    case "waiting":
      if (stage.state === "live") {
        lost = true;
        stage.freeze();
        latency.stop();
        figures.pause();
        stage.toast("");
      }
      waiting = waitingCard(detail);
      stage.card(waiting);
      show(detail.error?.full ? "full" : "waiting");
      break;
    case "live":
      waiting = null;
      stage.clearCard();
      latency.start(call.audio);
      show("live");
      if (synced.paused) play();
      break;
    default:
      show(detail.state);
  }
});

const STALLED = "The server hears nothing from this page.";

call.addEventListener("message", ({ detail: message }) => {
  switch (message.type) {
    case "session.ready":
      if (lost)
        stage.toast(
          message.resumed ? "Back again: the call goes on." : "Back again, in a new call.",
        );
      lost = false;
      break;
    case "stats":
      latency.hear(message);
      figures.showServer(message);
      if (message.stalled) stage.toast(STALLED, { stays: true });
      else if ($("toast").textContent === STALLED) stage.toast("");
      break;
    case "error":
      stage.toast(message.message);
      break;
    case "draining":
      stage.toast(draining(message), { stays: true });
      break;
  }
});

window.addEventListener("hashchange", () => showAvatars()); // another token
// The tab is closed or put aside: the server need not find out by a timeout.
window.addEventListener("pagehide", () => call.stop());
stage.addEventListener("act", () => (waiting ? call.retryNow() : play()));
// A telephone call or a headset that goes away stops a video; nobody here has a button to go on.
synced.addEventListener("pause", () => {
  if (stage.state === "live") play();
});

// The sources

devices.addEventListener("track", ({ detail: { kind, track, lost } }) => {
  sources.show(call.audio);
  if (kind === "microphone" && call.audio) latency.hearFrom(track);
  if (lost) stage.toast(unplugged(kind, lost));
});
devices.addEventListener("kept", ({ detail: { error } }) => stage.toast(kept(error)));
devices.addEventListener("silenced", ({ detail }) =>
  stage.toast(detail.silenced ? silenced(detail.kind) : "", { stays: true }),
);
devices.addEventListener("gone", ({ detail: { kind, lost, error } }) => {
  // Taking the permission back ends a track too; the browser's refusal tells it from a pulled plug.
  const pulled = lost && error.cause?.name === "NotFoundError";
  const title = pulled ? `The ${kind} was unplugged` : error.title;
  sources.testing = false;
  call.fail(new SourceError(title, error.message));
});
devices.addEventListener("speaker", ({ detail: { id, lost } }) => {
  synced
    .setSinkId(id)
    .catch((error) => stage.toast(`The speaker cannot be used: ${error.message}`));
  if (lost) stage.toast(unplugged("speaker", lost));
});

async function test() {
  stage.clearCard();
  const { file, camera } = chosen();
  try {
    await sources.test({ microphone: !file, camera });
  } catch (error) {
    stage.card(cardFor(error));
  }
}

// How it looks

function show(state) {
  stage.show(state, hintFor(state, chosen()));
  $("start").textContent = state === "idle" ? "Start" : state === "live" ? "Stop" : "Cancel";
  $("interrupt").disabled = state !== "live";
  $("mute").disabled = state === "idle";
  $("test").disabled = state !== "idle";
  showMuted();
  showChoices();
}

function showChoices() {
  const { file, camera } = chosen();
  fileRow.show({ visible: file, playable: stage.state === "live" });
  $("microphone-row").hidden = file;
  $("camera-row").hidden = !camera;
  $("speaker-row").hidden = !("setSinkId" in synced);
  $("test").hidden = file && !camera;
  if (idle()) stage.hint(hintFor("idle", { file, camera }));
}

function showMuted() {
  $("mute").setAttribute("aria-pressed", String(call.muted));
  $("quiet").setAttribute("aria-pressed", String(synced.muted));
}

async function showAboutServer() {
  const { version, engine } = await fetchStatus();
  const why = engine.backend_reason ? `, because ${engine.backend_reason}` : "";
  const about = $("about-server");
  about.classList.toggle("warning", engine.backend_reason_code === "broken");
  about.textContent = [
    `Lipwire ${version}`,
    engine.model !== "none" && engine.model,
    engine.backend && `${engine.backend}${why}`,
  ]
    .filter(Boolean)
    .join(" · ");
  about.title = about.textContent; // a narrow window cuts it off
  const better = engine.backends_passed_over?.some(({ reason }) => reason === "building");
  clearTimeout(aboutServer);
  if (better) aboutServer = setTimeout(() => showAboutServer().catch(() => {}), BUILDING_MS);
}

// Controls

panel.addEventListener("submit", (event) => {
  event.preventDefault();
  if (idle()) start();
  else call.stop();
});

faces.addEventListener("choose", () => {
  const { avatar } = faces;
  stage.poster(avatar && posterOf(avatar));
  sourceChanged();
});
panel.addEventListener("change", ({ target }) => {
  if (target.name !== "voice") return;
  keep("voice", target.value);
  if (idle() || !chosen().file || fileRow.player.loaded) sourceChanged();
  else showChoices();
});
fileRow.addEventListener("file", () => {
  if (idle()) stage.clearCard();
  else if (chosen().file) restart();
});
fileRow.addEventListener("refused", ({ detail }) => {
  if (!idle()) call.stop();
  stage.card(cardFor(detail));
});

/** Another source is chosen: a call begins anew with it, a test as well. */
function sourceChanged() {
  showChoices();
  if (!idle()) restart();
  else if (sources.testing) test();
  else stage.clearCard();
}

$("test").addEventListener("click", () => (sources.testing ? sources.endTest() : test()));
$("interrupt").addEventListener("click", interrupt);
$("mute").addEventListener("click", toggleMute);
$("quiet").addEventListener("click", () => {
  synced.muted = !synced.muted;
  keep("quiet", synced.muted ? "yes" : "");
  showMuted();
});
$("copy").addEventListener("click", async () => {
  const { state } = stage;
  const tracks = [call.audio, devices.track("camera")].filter(Boolean);
  $("copied").textContent = await copy(
    await makeReport({ state, ready: call.ready, record: figures.record, tracks }),
  );
});
listenForShortcuts({
  s: () => panel.requestSubmit(),
  m: toggleMute,
  i: interrupt,
  l: () => figures.toggle(),
  Escape: () => figures.close() || interrupt(),
});

function interrupt() {
  if (stage.state === "live") call.interrupt();
}

function toggleMute() {
  if (idle()) return;
  call.muted = !call.muted;
  showMuted();
}

// The faces

async function showAvatars(choose) {
  for (;;) {
    try {
      const { avatars, uploads, max_upload_mb: limitMiB } = await fetchAvatars();
      uploadLimitMiB = limitMiB;
      if (!faces.chosen) stage.clearCard(); // it told why there were none
      faces.show(avatars, { canEdit: uploads, choose });
      showAboutServer().catch(() => {}); // nobody misses it
      return;
    } catch (error) {
      const card = cardFor(error);
      stage.card(error.passing ? { ...card, text: `${card.text} Trying again…` } : card);
      if (!error.passing) return;
      await new Promise((resolve) => setTimeout(resolve, AVATARS_RETRY_MS));
    }
  }
}

faces.addEventListener("add", async ({ detail: file }) => {
  const name = await uploadAvatar(file, uploadLimitMiB);
  if (name) await showAvatars(name);
});
faces.addEventListener("remove", async ({ detail: avatar }) => {
  if (await confirmRemoval(avatar)) await showAvatars();
});

synced.muted = recall("quiet") === "yes";
if (recall("voice") === "file") panel.elements.voice.value = "file";
connectPickers(devices);
show("idle");
showAvatars();
