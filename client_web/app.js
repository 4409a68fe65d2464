// The page: what the user chose, what the session says, and how both look.

import { LatencyMeter, LevelMeter, Sparkline } from "./meters.js";
import { fetchAvatars } from "./server.js";
import { Session } from "./session.js";
import { FilePlayer, SourceError, openDevices } from "./sources.js";

const CAMERA = "camera"; // the value of the face that is the user's own
const AVATARS_RETRY_MS = 3_000;

const $ = (id) => document.getElementById(id);
const panel = $("panel");
const synced = $("synced");
const camera = $("camera");
const player = new FilePlayer();
const latency = new LatencyMeter(synced);
const level = new LevelMeter($("level"));
const spark = new Sparkline($("spark"));

/** @type {{name: string, title?: string, poster?: string}[]} */
let avatars = [];
/** @type {Session | null} */
let session = null;
/** @type {MediaStream | null} the open microphone and camera */
let devices = null;
let starting = 0; // counts starts, so that one that was overtaken gives up
let playOnLive = false; // the file goes on where a lost connection cut it off
let ending = Promise.resolve(); // the old session gives its place back before a new one asks

// What is chosen

const face = () => panel.elements.face?.value ?? "";
const voice = () => panel.elements.voice.value;
const live = () => face() === CAMERA;

async function showAvatars() {
  for (;;) {
    try {
      avatars = await fetchAvatars();
      break;
    } catch (error) {
      notice(`${error.message} Trying again…`);
      await new Promise((resolve) => setTimeout(resolve, AVATARS_RETRY_MS));
    }
  }
  notice("");
  const wanted = recall("face");
  const names = [...avatars.map(({ name }) => name), CAMERA];
  const chosen = names.includes(wanted) ? wanted : names[0];
  $("faces").replaceChildren(
    ...avatars.map((avatar) => faceTile(avatar.name, titleOf(avatar), posterOf(avatar), chosen)),
    faceTile(CAMERA, "Camera", null, chosen),
  );
  showSource();
}

function faceTile(value, title, poster, chosen) {
  const tile = document.createElement("label");
  const input = Object.assign(document.createElement("input"), {
    type: "radio",
    name: "face",
    value,
    checked: value === chosen,
  });
  const picture = document.createElement("span");
  picture.className = "face-picture";
  if (poster) picture.append(Object.assign(new Image(), { src: poster, alt: "" }));
  else picture.classList.add("is-camera");
  const name = Object.assign(document.createElement("span"), {
    className: "face-name",
    textContent: title,
  });
  tile.append(input, picture, name);
  return tile;
}

const titleOf = ({ name, title }) => title || name[0].toUpperCase() + name.slice(1);
const posterOf = ({ name, poster }) => poster || `/v1/avatars/${encodeURIComponent(name)}/poster.jpg`;

function showSource() {
  const avatar = avatars.find(({ name }) => name === face());
  const poster = avatar ? posterOf(avatar) : "";
  for (const image of [$("still"), $("ambience"), $("source-still")]) {
    if (poster) image.src = poster;
    image.hidden = !poster;
  }
  camera.hidden = !live();
  $("source-name").textContent = avatar ? titleOf(avatar) : "Your camera";
  $("source-voice").textContent = voice() === "file" ? "Sound file" : "Microphone";
  $("file-row").hidden = voice() !== "file";
  showHint();
}

// Start and stop

panel.addEventListener("submit", (event) => {
  event.preventDefault();
  if (state() === "idle") start();
  else stop();
});

async function start() {
  if (!face()) return;
  if (voice() === "file" && !player.loaded) {
    notice("Choose a sound file first.");
    $("file").focus();
    return;
  }
  const run = (starting += 1);
  playOnLive = voice() === "file";
  notice("");
  show("asking");
  // Made within the click, or the browser keeps the sound suspended.
  const fileTrack = voice() === "file" ? player.track() : null;
  let opened;
  try {
    opened = await openDevices({ microphone: !fileTrack, camera: live() });
  } catch (error) {
    if (run === starting) fail(error);
    return;
  }
  if (run !== starting) {
    release(opened);
    return;
  }
  devices = opened;
  const audio = fileTrack ?? opened.getAudioTracks()[0];
  const [video] = opened.getVideoTracks();
  if (video) {
    camera.srcObject = opened;
    camera.play().catch(() => {});
  }
  for (const track of opened.getTracks()) {
    track.addEventListener("ended", () => fail(new SourceError(`The ${nameOf(track)} was disconnected.`)));
  }
  level.start(audio);
  show("connecting");
  await ending;
  if (run !== starting) return; // stopped meanwhile, which released the devices
  connect({ mode: live() ? "live" : "avatar", avatar: face(), audio, video });
}

const nameOf = (track) => (track.kind === "video" ? "camera" : "microphone");

function connect(source) {
  session = new Session(source);
  session.addEventListener("state", ({ detail }) => onState(detail, source.audio));
  session.addEventListener("media", ({ detail }) => {
    if (synced.srcObject !== detail) synced.srcObject = detail;
    synced.play().catch(() => {}); // refused only without a click, and Start was one
  });
  session.addEventListener("message", ({ detail }) => onMessage(detail));
  session.addEventListener("stats", ({ detail }) => showReceived(latency.measure(detail)));
  session.start();
}

function onState({ state: now, why, waitS, full }, audio) {
  if (now === "ended") {
    fail(new Error(why));
    return;
  }
  show(now);
  if (now === "waiting") {
    playOnLive ||= player.playing;
    pauseFile();
    latency.stop();
    clearFigures();
    notice(`${why} Trying again`, ` in ${waitS} s`);
    $("state").textContent = full ? "Server is full" : "Connection lost";
    return;
  }
  if (now === "live") {
    notice("");
    latency.start(audio);
    if (playOnLive) player.play().catch(fail);
    playOnLive = false;
  }
}

const STALLED = "The server hears nothing from this page.";

function onMessage(message) {
  switch (message.type) {
    case "stats":
      latency.hear(message);
      showServer(message);
      if (message.stalled) notice(STALLED);
      else if ($("notice-text").textContent === STALLED) notice("");
      break;
    case "error":
      if (message.fatal) fail(new Error(message.message));
      else notice(message.message);
      break;
    case "draining":
      notice("The server is about to restart; this page reconnects by itself.");
      break;
  }
}

function stop() {
  starting += 1;
  ending = session?.stop() ?? ending;
  session = null;
  pauseFile();
  latency.stop();
  level.stop();
  release(devices);
  devices = null;
  camera.srcObject = null;
  synced.srcObject = null;
  clearFigures();
  notice("");
  show("idle");
}

function fail(error) {
  stop();
  notice(error.message);
}

function release(stream) {
  for (const track of stream?.getTracks() ?? []) track.stop();
}

// The tab is closed or put aside: the server need not find out by a timeout.
window.addEventListener("pagehide", stop);

// How it looks

const state = () => document.documentElement.dataset.state;

const STATES = {
  idle: "Ready",
  asking: "Waiting for permission",
  connecting: "Connecting",
  waiting: "Connection lost",
  live: "Live",
};

function show(now) {
  document.documentElement.dataset.state = now;
  $("state").textContent = STATES[now];
  $("start").textContent = now === "idle" ? "Start" : now === "live" ? "Stop" : "Cancel";
  $("interrupt").disabled = now !== "live";
  $("file-toggle").disabled = now !== "live";
  if (now !== "live") delete document.documentElement.dataset.picture;
  showHint();
}

synced.addEventListener("playing", () => {
  if (state() !== "live" && state() !== "connecting") return;
  document.documentElement.dataset.picture = "";
  showHint();
});

function showHint() {
  const speak = voice() === "file" ? "the file plays" : "speak";
  const who = live() ? "your own face" : "the face";
  $("hint").textContent =
    {
      idle: `Press Start: ${voice() === "file" ? "the file plays and" : "speak and"} ${who} says it.`,
      asking: "Your browser asks whether this page may listen.",
      connecting: "Connecting…",
      waiting: "",
      live: "picture" in document.documentElement.dataset ? "" : `Connected: ${speak}.`,
    }[state()] ?? "";
}

/** Shows a message; `countdown` follows it without being read out every second. */
function notice(text, countdown = "") {
  if ($("notice-text").textContent !== text) $("notice-text").textContent = text;
  $("notice-countdown").textContent = countdown;
  $("notice").hidden = !text;
}

const FIGURES = [
  "latency",
  "server-p50",
  "server-p95",
  "fps",
  "dropped",
  "late",
  "synced-share",
  "playout",
  "backend",
];

const whole = (value) => (Number.isFinite(value) ? String(Math.round(value)) : "–");

function showServer(stats) {
  $("server-p50").textContent = whole(stats.server_latency_ms?.p50);
  $("server-p95").textContent = whole(stats.server_latency_ms?.p95);
  $("late").textContent = whole(stats.late_hops);
  $("dropped").textContent = whole(stats.dropped_frames);
  $("playout").textContent = whole(stats.playout_delay_ms);
  $("synced-share").textContent = Number.isFinite(stats.synced)
    ? `${whole(100 * stats.synced)} %`
    : "–";
  $("backend").textContent = stats.backend ?? "–";
}

function clearFigures() {
  for (const id of FIGURES) $(id).textContent = "–";
  $("parts").replaceChildren();
  spark.clear();
}

function showReceived({ fps, totalMs, parts }) {
  $("fps").textContent = fps === null ? "–" : whole(fps);
  $("latency").textContent = totalMs === null ? "–" : whole(totalMs);
  spark.push(totalMs);
  const longest = Math.max(1, ...parts.map(({ ms }) => ms ?? 0));
  $("parts").replaceChildren(
    ...parts.map(({ label, ms }) => {
      const row = document.createElement("li");
      row.style.setProperty("--share", String((ms ?? 0) / longest));
      const value = Object.assign(document.createElement("b"), {
        textContent: ms === null ? "–" : `${whole(ms)} ms`,
      });
      row.append(label, value);
      return row;
    }),
  );
}

$("latency-button").addEventListener("click", ({ currentTarget }) => {
  const open = currentTarget.getAttribute("aria-expanded") !== "true";
  currentTarget.setAttribute("aria-expanded", String(open));
});

// Controls

panel.addEventListener("change", async ({ target }) => {
  if (target.name === "face") {
    keep("face", target.value);
    showSource();
    if (state() !== "idle") restart();
  }
  if (target.name === "voice") {
    showSource();
    if (state() === "idle") notice("");
    else if (voice() === "microphone" || player.loaded) restart();
  }
  if (target.id === "file" && target.files.length) await takeFile(target.files[0]);
});

function restart() {
  stop();
  start();
}

async function takeFile(file) {
  $("file-name").textContent = file.name;
  try {
    await player.load(file);
  } catch (error) {
    $("file-play").hidden = true;
    if (state() === "idle") notice(error.message);
    else fail(error);
    return;
  }
  notice("");
  $("file-play").hidden = false;
  showFile();
  if (state() === "live" && voice() === "file") restart();
}

$("file-row").addEventListener("dragover", (event) => event.preventDefault());
$("file-row").addEventListener("drop", (event) => {
  event.preventDefault();
  const [file] = event.dataTransfer.files;
  if (file) takeFile(file);
});

$("file-toggle").addEventListener("click", () => {
  if (player.playing) player.pause();
  else player.play().catch(fail);
});
$("file-seek").addEventListener("input", ({ target }) => player.seek(Number(target.value)));
player.addEventListener("change", showFile);

function pauseFile() {
  if (player.playing) player.pause();
}

function showFile() {
  const seek = $("file-seek");
  seek.max = String(player.durationS || 1);
  seek.value = String(player.positionS);
  seek.setAttribute("aria-valuetext", `${clock(player.positionS)} of ${clock(player.durationS)}`);
  $("file-time").textContent = `${clock(player.positionS)} / ${clock(player.durationS)}`;
  $("file-toggle").setAttribute("aria-label", player.playing ? "Pause" : "Play");
  $("file-toggle").classList.toggle("is-playing", player.playing);
}

const clock = (seconds) =>
  `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

$("interrupt").addEventListener("click", interrupt);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && state() === "live") interrupt();
});

function interrupt() {
  pauseFile();
  session?.send({ type: "interrupt" });
}

$("mute").addEventListener("click", () => {
  synced.muted = !synced.muted;
  showMuted();
  keep("muted", synced.muted ? "yes" : "");
});

function showMuted() {
  $("mute").setAttribute("aria-pressed", String(synced.muted));
}

function keep(key, value) {
  try {
    localStorage.setItem(`lipwire.${key}`, value);
  } catch {
    // Storage is off; the choice then lasts as long as the page.
  }
}

function recall(key) {
  try {
    return localStorage.getItem(`lipwire.${key}`);
  } catch {
    return null;
  }
}

synced.muted = recall("muted") === "yes";
showMuted();
showHint();
showAvatars();
