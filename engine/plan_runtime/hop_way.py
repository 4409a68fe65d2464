"""How plans run the hops of a model: which plans, of how many frames, how often for each session.

    mode      U-Net sees        carried from hop to hop
    causal    h new frames      keys and values, in rings
    carry     h new frames      keys, values and moments, in rings
    pinned    all W frames      what the c frames before were made from, and their clean latents
    disjoint  all W frames      nothing

Where steps are guided every step runs twice for each session: without sound, and with it.
"""

from __future__ import annotations

from engine.spec import ModelSpec

# Those of which a row is a frame.
FRAME_PLANS = frozenset(
    {"audio_encoder", "codec_decoder", "hop_finish", "crop_start", "codec_encoder", "crop_finish"}
)
ENCODE_PLANS = ("crop_start", "codec_encoder", "crop_finish")


def is_pinned(spec: ModelSpec, hop: int) -> bool:
    """Whether frames of earlier hops are denoised again with the new ones."""
    return spec.carry == "pinned" and hop < spec.window_frames


def branches_of(spec: ModelSpec) -> int:
    """Rows that the U-Net has for each session: 2 where a step is guided."""
    return 2 if any(spec.guided(step) for step in range(len(spec.timesteps))) else 1


def network_frames(spec: ModelSpec, hop: int) -> int:
    """Frames that the U-Net computes in a hop."""
    return spec.window_frames if is_pinned(spec, hop) else hop


def hop_plans(spec: ModelSpec, hop: int) -> tuple[str, ...]:
    """The plans of a hop, in their order; "unet" and "hop_step" run at every step."""
    gathers = is_pinned(spec, hop) or branches_of(spec) > 1
    return (
        "hop_start",
        "audio_encoder",
        *(("hop_audio",) if gathers else ()),
        "unet",
        "hop_step",
        "codec_decoder",
        "hop_finish",
    )


def plans_of(spec: ModelSpec, hop: int) -> tuple[str, ...]:
    """Every plan that serves a model at a hop length."""
    return (*hop_plans(spec, hop), *ENCODE_PLANS)


def rows_of(spec: ModelSpec, hop: int, plan: str) -> int:
    """Rows that a plan has for one session."""
    if plan == "unet":
        return branches_of(spec)
    return hop if plan in FRAME_PLANS else 1
