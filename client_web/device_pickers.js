// The menus of microphones, cameras and speakers.

const $ = (id) => document.getElementById(id);

const MENUS = { microphone: $("microphone"), camera: $("camera-choice"), speaker: $("speaker") };

/**
 * Keeps the menus up to date and passes choices on.
 *
 * @param {import("./devices.js").Devices} devices
 */
export function connectPickers(devices) {
  for (const [kind, menu] of Object.entries(MENUS)) {
    menu.addEventListener("change", () => devices.choose(kind, menu.value));
  }
  devices.addEventListener("list", () => showLists(devices));
  showLists(devices);
  devices.refresh();
}

function showLists(devices) {
  for (const [kind, menu] of Object.entries(MENUS)) {
    const listed = devices.list(kind);
    menu.replaceChildren(new Option(`Default ${kind}`, ""));
    for (const { id, label } of listed) menu.append(new Option(label, id));
    if (!listed.length) {
      const note = new Option("Others appear once you allow it", "-");
      note.disabled = true;
      menu.append(note);
    }
    menu.value = devices.chosen(kind);
  }
}
