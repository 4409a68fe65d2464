// The access token: it comes in the address, after `#`, where no server and no log sees it.

const KEY = "lipwire.token";

let token = takeFromAddress() ?? stored();

// A link with another token, opened in the same tab, loads no page.
window.addEventListener("hashchange", () => {
  token = takeFromAddress() ?? token;
});

/** Headers that carry the token; none where there is none. */
export function authorization() {
  return token ? { authorization: `Bearer ${token}` } : {};
}

/** Whether requests carry a token. */
export const hasToken = () => Boolean(token);

/** Takes `#token=...` out of the address, so that it is in no bookmark and no picture of the page. */
function takeFromAddress() {
  const found = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!found) return null;
  history.replaceState(null, "", location.pathname + location.search);
  try {
    sessionStorage.setItem(KEY, found); // a reload keeps it, another tab does not get it
  } catch {
    // Storage is off; the token then lasts as long as the page.
  }
  return found;
}

function stored() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}
