// Why a microphone or camera could not be had, and what the user can do about it.

/** A source that could not be had: a title and a text that says what to do about it. */
export class SourceError extends Error {
  constructor(title, message, options) {
    super(message, options);
    this.title = title;
  }
}

/** The browser's answer to a page that is neither from https nor from this machine. */
export function insecure({ microphone, camera }) {
  const wanted = names({ microphone, camera });
  return new SourceError(
    `No ${wanted} on this address`,
    `Browsers give the ${wanted} only to pages from https or localhost. Open this page that way, ` +
      "or choose an avatar and a sound file.",
  );
}

/**
 * What getUserMedia's error means.
 *
 * @param {DOMException} error
 * @param {{microphone: boolean, camera: boolean}} asked
 * @returns {Promise<SourceError>}
 */
export async function explain(error, asked) {
  const refused = await whichAreMeant(error, asked);
  const wanted = names(refused);
  const were = refused.microphone && refused.camera ? "were" : "was";
  const instead = refused.camera ? "choose an avatar" : "choose a sound file";
  const [title, text] = await words();
  return new SourceError(title, text, { cause: error });

  async function words() {
    switch (error.name) {
      case "NotAllowedError":
      case "SecurityError":
        if (/system/i.test(error.message)) {
          return [
            `The system keeps the ${wanted} from the browser`,
            `Allow it in the computer's privacy settings, then press Start again, or ${instead}.`,
          ];
        }
        if (await isStillOpen(asked)) {
          return [
            "The question was closed",
            `The browser asked for the ${wanted} and got no answer. Press Start again and choose ` +
              `Allow, or ${instead}.`,
          ];
        }
        return [
          `The ${wanted} ${were} refused`,
          `Allow the ${wanted} in the settings beside the page's address, then press Start again, ` +
            `or ${instead}.`,
        ];
      case "NotFoundError":
        return [`No ${wanted} was found`, `Connect one and press Start again, or ${instead}.`];
      case "OverconstrainedError":
        return [
          `The chosen ${wanted} cannot be used`,
          "It is not connected, or has no setting that fits. Choose another one and press Start again.",
        ];
      case "NotReadableError":
      case "AbortError":
        return [
          `The ${wanted} cannot be opened`,
          `Another program may hold ${asked.microphone && asked.camera ? "them" : "it"}. ` +
            `Close that program and press Start again, or ${instead}.`,
        ];
      default:
        return [`The ${wanted} could not be opened`, `The browser says: ${error.message}`];
    }
  }
}

/** Of what was asked for in one question, what it failed for; all where that cannot be told. */
async function whichAreMeant({ name }, asked) {
  let failed = () => false;
  if (name === "NotAllowedError") {
    const states = { microphone: await stateOf("microphone"), camera: await stateOf("camera") };
    failed = (kind) => states[kind] === "denied";
  } else if (name === "NotFoundError") {
    const kinds = (await navigator.mediaDevices.enumerateDevices()).map(({ kind }) => kind);
    const types = { microphone: "audioinput", camera: "videoinput" };
    failed = (kind) => !kinds.includes(types[kind]);
  }
  const meant = {
    microphone: asked.microphone && failed("microphone"),
    camera: asked.camera && failed("camera"),
  };
  return meant.microphone || meant.camera ? meant : asked;
}

function names({ microphone, camera }) {
  return microphone && camera ? "microphone and camera" : camera ? "camera" : "microphone";
}

/** Whether the browser would ask again: then nobody said no. */
async function isStillOpen({ microphone, camera }) {
  const kinds = [microphone && "microphone", camera && "camera"].filter(Boolean);
  const states = await Promise.all(kinds.map(stateOf));
  return states.includes("prompt") && !states.includes("denied") && !states.includes("unknown");
}

/** "granted", "denied" or "prompt"; "unknown" where the browser does not say, as older Firefox. */
async function stateOf(name) {
  try {
    return (await navigator.permissions.query({ name })).state;
  } catch {
    return "unknown";
  }
}
