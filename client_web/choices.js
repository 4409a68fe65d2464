// What the user chose, kept in this browser for the next visit.

/** Keeps a choice; without storage it lasts as long as the page. */
export function keep(key, value) {
  try {
    localStorage.setItem(`lipwire.${key}`, value);
  } catch {
    // Storage is off or full.
  }
}

/** The choice of an earlier visit, or null. */
export function recall(key) {
  try {
    return localStorage.getItem(`lipwire.${key}`);
  } catch {
    return null;
  }
}
