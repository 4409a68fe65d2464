"""The model card: what the bundled model is, what it was trained on, its scores and limits."""

from __future__ import annotations

from typing import Any

from engine.spec import ModelSpec

_SPLIT_TITLES = {
    "sentences": "sentences (voices heard in training)",
    "voices": "voices",
    "language": "language (Italian)",
    "engine": "English of another synthesiser",
    "neural": "neural synthesiser (Mandarin)",
}
_COLUMNS = (
    ("opening", "opening"),
    ("opening_ratio", "amplitude"),
    ("lag_frames", "lag, frames"),
    ("width", "width"),
    ("rounding", "rounding"),
    ("closure_recall", "closure recall"),
    ("closure_precision", "closure precision"),
    ("rest_opening", "opening at rest"),
)

_ABOUT = """# {name}

Licence: {licence}, weights included. No recording of a person, no picture of a person and no
weights of others went into it: speech and faces are synthetic throughout.

## What it is
LatentSync's U-Net at small scale ({widths} channels, {latents}x{latents} latents of {channels}
channels, audio cross-attention, temporal modules in the decoder), run block-causally with carried
keys and values, {steps} denoising step. A Whisper-shaped audio encoder ({audio_layers} layers of
{audio_width}) hears {window_ms} ms up to 80 ms past the frame. The codec is a PCA of 8x8 patches
with a small learned decoder. The picture is the lower face, {resolution}x{resolution} pixels. The
network gets pure noise at timestep {timestep} and the same frame of the source as its reference. It
predicts the clean latents, a gate that passes the reference through where nothing moves, and a
warp: how the source's own pixels move, and where the decoded picture covers them. So skin, beard
and chin are the source's, at its own resolution; lips and the inside of the mouth are drawn.

## What it was trained on
- Four hours of speech of espeak-ng, flite, festival and Open JTalk in nineteen
  languages, Mandarin among them, with the mouth's truth from their phoneme timings
  (`training/speech`), over synthetic rooms, microphones, codecs and noise.
- Faces of a procedural renderer (`training/faces`): thirteen hundred of all ages and skin tones,
  each in one clip of two seconds, with pose to 30 degrees, light, camera and alignment error
  varied; and the bundled avatars.
How, with every command: `docs/training.md`.

## What it cannot do
- It has never seen a photograph. On real cameras skin moves as it should and stays the person's,
  but teeth and the inside of the mouth are drawn ones; for people use the published LatentSync
  weights.
- Teeth come out as rows with soft gaps, and what a wide open mouth uncovers is softer than lips.
- Closed lips (p, b, m) are missed more often in voices unlike those of training; see the scores.
- Profiles, hands or microphones before the mouth, and heads tilted far, were never shown.
- Synthetic speech has clearer articulation than people have; laughter, singing and whispering
  were never heard.
- Generated mouths must not be used to make people appear to say what they did not say.
"""


def model_card(spec: ModelSpec, scores: dict[str, Any] | None) -> str:
    """The card's Markdown; without scores it says that there are none yet."""
    text = _ABOUT.format(
        name=spec.name,
        licence=spec.licence,
        widths="/".join(str(width) for width in spec.unet.block_out_channels),
        latents=spec.latent_size,
        channels=spec.codec.latent_channels,
        steps=len(spec.timesteps),
        audio_layers=spec.audio.layers,
        audio_width=spec.audio.width,
        window_ms=20 * spec.audio.positions,
        resolution=spec.resolution,
        timestep=spec.timesteps[0],
    )
    return text + ("\n## Scores\nNot scored yet.\n" if scores is None else _scores(scores))


def _scores(scores: dict[str, Any]) -> str:
    judge, pictures = scores["judge_on_rendered_truth"], scores["pictures"]
    lines = [
        "\n## Scores",
        f"`training.evaluate`, backend {scores['backend']}, hop {scores['hop_frames']}, "
        f"{scores['frames_a_split']} frames a split, faces never seen in training. A judge trained "
        "on rendered truth reads the mouths back; on rendered truth itself it scores "
        f"{judge['opening']:.2f} for the opening, {judge['width']:.2f} for the width and "
        f"{judge['rounding']:.2f} for the rounding, closure recall {judge['closure_recall']:.2f}.",
        "",
        "| held out | " + " | ".join(title for _, title in _COLUMNS) + " |",
        "|---" * (len(_COLUMNS) + 1) + "|",
    ]
    for split, values in scores["held_out"].items():
        lines.append(_row(_SPLIT_TITLES[split], values))
    for split, values in scores["held_out_with_wrong_sound"].items():
        lines.append(_row(f"wrong sound: {split}", values))
    for split, values in scores["floor_loudness"].items():
        lines.append(_row(f"loudness alone: {split}", values))
    lines += [
        "",
        f"Mouth PSNR {pictures['mouth_psnr_db']} dB (source left as it is "
        f"{pictures['mouth_psnr_source_shown_db']}), skin around it {pictures['skin_psnr_db']} dB "
        f"({pictures['skin_psnr_source_shown_db']}), sharpness {pictures['sharpness_of_truth']} of "
        f"the truth's. Boundary ratio {pictures['boundary_ratio']} (rendered truth "
        f"{pictures['boundary_ratio_truth']}).",
        "",
    ]
    return "\n".join(lines)


def _row(title: str, values: dict[str, float]) -> str:
    cells = (f"{values[key]:.2f}" if key in values else "-" for key, _ in _COLUMNS)
    return f"| {title} | " + " | ".join(cells) + " |"
