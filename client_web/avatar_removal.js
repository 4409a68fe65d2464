// Removes one of the user's own avatars, after asking.

import { titleOf } from "./faces.js";
import { request } from "./server.js";

const $ = (id) => document.getElementById(id);

const dialog = $("removal");

/**
 * Asks, and removes the avatar from the server.
 *
 * @param {import("./faces.js").Avatar} avatar
 * @returns {Promise<boolean>} whether it is gone
 */
export function confirmRemoval(avatar) {
  const done = new AbortController();
  const { signal } = done;
  return new Promise((resolve) => {
    $("removal-title").textContent = `Remove ${titleOf(avatar)}?`;
    $("removal-error").hidden = true;
    $("removal-go").disabled = false;
    $("removal-go").addEventListener("click", () => remove(), { signal });
    dialog.addEventListener("close", () => end(false), { signal });
    dialog.showModal();

    async function remove() {
      $("removal-go").disabled = true;
      try {
        await request(`/v1/avatars/${encodeURIComponent(avatar.name)}`, { method: "DELETE" });
        end(true);
      } catch (error) {
        $("removal-go").disabled = false;
        $("removal-error").textContent = error.message;
        $("removal-error").hidden = false;
      }
    }

    function end(gone) {
      done.abort();
      dialog.close();
      resolve(gone);
    }
  });
}
