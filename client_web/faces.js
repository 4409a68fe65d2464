// The faces to choose from: the server's avatars, the user's own camera, and a place for more.

import { keep, recall } from "./choices.js";

const $ = (id) => document.getElementById(id);

/** The value of the face that is the user's own. */
export const CAMERA = "@camera"; // no avatar can have this name

/** @typedef {{name: string, title?: string, poster?: string, own?: boolean}} Avatar */

/**
 * The list of faces, a group of radio buttons named "face".
 *
 * Events: "choose" when another face is chosen, "add" (detail: File) when a picture or clip is to
 * become one, "remove" (detail: Avatar) when the user wants an own one gone.
 */
export class Faces extends EventTarget {
  /** @type {Avatar[]} */
  #avatars = [];

  constructor() {
    super();
    const list = $("faces");
    list.addEventListener("change", ({ target }) => {
      if (target.name === "face") this.#choose(target.value);
      if (target.type === "file") this.#add(target.files[0]);
      if (target.type === "file") target.value = ""; // the same file can be chosen again
    });
    list.addEventListener("dragover", (event) => event.preventDefault());
    list.addEventListener("drop", (event) => {
      event.preventDefault();
      this.#add(event.dataTransfer.files[0]);
    });
  }

  /** The chosen face: an avatar's name, `CAMERA`, or "" before there are any. */
  get chosen() {
    return $("faces").querySelector("input[name=face]:checked")?.value ?? "";
  }

  /** The chosen avatar, or null when it is the camera. */
  get avatar() {
    return this.#avatars.find(({ name }) => name === this.chosen) ?? null;
  }

  /**
   * Shows what there is to choose from.
   *
   * @param {Avatar[]} avatars
   * @param {{canEdit: boolean, choose?: string}} options `canEdit`: faces can be added, and own ones
   *   removed; `choose`: the face to choose, else the one of before
   */
  show(avatars, { canEdit, choose }) {
    const wanted = choose ?? (this.chosen || recall("face"));
    const names = [...avatars.map(({ name }) => name), CAMERA];
    const before = this.chosen;
    const chosen = names.includes(wanted) ? wanted : names[0];
    this.#avatars = avatars;
    $("faces").replaceChildren(
      ...avatars.map((avatar) => this.#avatarTile(avatar, chosen, canEdit)),
      choiceTile(CAMERA, "Camera", "is-camera", chosen),
      ...(canEdit ? [addTile()] : []),
    );
    if (chosen !== before) this.#choose(chosen);
  }

  #choose(name) {
    keep("face", name);
    this.dispatchEvent(new Event("choose"));
  }

  #add(file) {
    if (file) this.dispatchEvent(new CustomEvent("add", { detail: file }));
  }

  #avatarTile(avatar, chosen, canEdit) {
    const tile = choiceTile(avatar.name, titleOf(avatar), posterOf(avatar), chosen);
    if (!avatar.own || !canEdit) return tile;
    const remove = Object.assign(document.createElement("button"), {
      type: "button",
      className: "remove",
      title: `Remove ${titleOf(avatar)}`,
    });
    remove.setAttribute("aria-label", remove.title);
    remove.addEventListener("click", () => {
      this.dispatchEvent(new CustomEvent("remove", { detail: avatar }));
    });
    // Beside the label, or a click on it would choose the face as well.
    const wrapper = document.createElement("div");
    wrapper.append(tile, remove);
    return wrapper;
  }
}

export const titleOf = ({ name, title }) => title || name[0].toUpperCase() + name.slice(1);
export const posterOf = ({ name, poster }) =>
  poster || `/v1/avatars/${encodeURIComponent(name)}/poster.jpg`;

function choiceTile(value, title, look, chosen) {
  const input = Object.assign(document.createElement("input"), {
    type: "radio",
    name: "face",
    value,
    checked: value === chosen,
  });
  return tileOf(input, title, look);
}

function addTile() {
  const input = Object.assign(document.createElement("input"), {
    type: "file",
    id: "add-face",
    accept: "image/jpeg,image/png,image/webp,video/mp4,video/quicktime,video/webm",
  });
  return tileOf(input, "Add…", "is-add");
}

/** @param {string} look a class, or the address of a picture */
function tileOf(input, title, look) {
  const tile = document.createElement("label");
  const picture = document.createElement("span");
  picture.className = "face-picture";
  if (look.startsWith("is-")) picture.classList.add(look);
  else picture.append(Object.assign(new Image(), { src: look, alt: "" }));
  const name = Object.assign(document.createElement("span"), {
    className: "face-name",
    textContent: title,
    title, // the tile may cut it off
  });
  tile.append(input, picture, name);
  return tile;
}
