// Keeps a page's sound graphs running: browsers suspend them in the background, at a telephone
// call, and before the first click.

const NUDGES = ["pointerdown", "keydown", "visibilitychange", "focus"];

/**
 * Resumes a context whenever it was suspended, at once or with the user's next click or key.
 *
 * @param {AudioContext} context
 * @returns {AudioContext} the same
 */
export function keepAwake(context) {
  const wake = () => {
    if (context.state !== "running" && context.state !== "closed") context.resume().catch(() => {});
  };
  context.addEventListener("statechange", wake);
  for (const nudge of NUDGES) window.addEventListener(nudge, wake, { capture: true });
  wake();
  return context;
}
