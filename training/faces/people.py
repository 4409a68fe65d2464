"""The people whom the bundled avatars show, each in a light of their own."""

from __future__ import annotations

import dataclasses

import numpy as np

from training.faces.expression import Expression
from training.faces.identity import Colour, Identity
from training.faces.light import Light

Person = tuple[Identity, Light]

# A window at the left, a white wall at the right, a little of the room from behind.
_WINDOW = Light(
    key=(-0.56, -0.36, 0.745),
    key_colour=(1.70, 1.56, 1.40),
    fill=(0.80, -0.05, 0.60),
    fill_colour=(0.26, 0.28, 0.32),
    sky=(0.34, 0.36, 0.40),
    ground=(0.25, 0.20, 0.17),
    exposure=0.93,
    softness=0.75,
    background=((0.52, 0.50, 0.46), (0.30, 0.28, 0.255)),
    rim=(0.86, -0.30, -0.41),
    rim_colour=(0.62, 0.58, 0.52),
)


def _mirrored(light: Light) -> Light:
    """The same light from the other side."""

    def turned(direction: Colour) -> Colour:
        return (-direction[0], direction[1], direction[2])

    return dataclasses.replace(
        light, key=turned(light.key), fill=turned(light.fill), rim=turned(light.rim)
    )


def _average(seed: int) -> Identity:
    return Identity.sample(np.random.default_rng(seed))


def anna() -> Person:
    """A young woman with long brown hair."""
    face = dataclasses.replace(
        _average(4),
        masculine=0.05,
        age=0.08,
        skin=(0.70, 0.462, 0.342),
        redness=0.55,
        freckles=0.25,
        face_width=0.950,
        jaw_width=0.885,
        chin_y=87.3,
        chin_width=0.84,
        cheek=0.62,
        mouth_y=66.5,
        mouth_half=13.4,
        upper_lip=4.2,
        lower_lip=5.6,
        bow=0.75,
        corner_lift=0.7,
        lip=(0.52, 0.225, 0.205),
        lipstick=0.25,
        lip_gloss=0.40,
        nose_base=54.2,
        nose_half=8.2,
        nose_height=0.95,
        eye_y=30.6,
        eye_dx=18.0,
        eye_size=1.05,
        eye_tilt=0.06,
        monolid=0.0,
        brow_y=19.4,
        brow_dx=18.2,
        brow_thickness=0.9,
        brow_arch=0.85,
        iris=(0.075, 0.115, 0.105),
        hair=(0.120, 0.058, 0.028),
        hair_style="long",
        beard=0.0,
        moustache=0.0,
        glasses=0.0,
        clothing=(0.045, 0.090, 0.120),
        texture_seed=97 * 208 + 61,
        skew=0.35,
    )
    return Expression(smile=0.6, brow=0.15, squint=0.2).worn_by(face), _WINDOW


def marco() -> Person:
    """A man of thirty with a short beard."""
    face = dataclasses.replace(
        _average(4),
        masculine=0.9,
        age=0.2,
        skin=(0.54, 0.325, 0.218),
        redness=0.55,
        freckles=0.0,
        face_width=0.985,
        jaw_width=1.0,
        chin_y=88.6,
        chin_width=1.08,
        cheek=0.35,
        mouth_y=66.9,
        mouth_half=14.0,
        upper_lip=3.9,
        lower_lip=5.2,
        bow=0.55,
        corner_lift=0.6,
        lip=(0.39, 0.185, 0.150),
        lipstick=0.0,
        lip_gloss=0.16,
        nose_base=54.4,
        nose_half=9.2,
        nose_height=1.10,
        eye_y=30.6,
        eye_dx=18.0,
        eye_size=0.98,
        eye_tilt=0.02,
        monolid=0.0,
        brow_y=20.2,
        brow_dx=18.4,
        brow_thickness=1.15,
        brow_arch=0.45,
        iris=(0.085, 0.042, 0.018),
        hair=(0.034, 0.020, 0.013),
        hair_style="short",
        beard=0.45,
        moustache=0.35,
        glasses=0.0,
        clothing=(0.030, 0.036, 0.052),
        texture_seed=771,
        skew=-0.4,
    )
    light = dataclasses.replace(
        _mirrored(_WINDOW), background=((0.22, 0.26, 0.29), (0.10, 0.12, 0.135))
    )
    return Expression(smile=0.5, brow=0.1, squint=0.3).worn_by(face), light


def mei() -> Person:
    """A young woman with black hair to her chin."""
    face = dataclasses.replace(
        _average(4),
        masculine=0.05,
        age=0.05,
        skin=(0.68, 0.462, 0.335),
        redness=0.45,
        freckles=0.0,
        face_width=0.95,
        jaw_width=0.875,
        chin_y=86.8,
        chin_width=0.84,
        cheek=0.85,
        mouth_y=66.3,
        mouth_half=12.8,
        upper_lip=4.2,
        lower_lip=5.4,
        bow=0.9,
        corner_lift=0.7,
        lip=(0.52, 0.190, 0.180),
        lipstick=0.4,
        lip_gloss=0.42,
        nose_base=54.2,
        nose_half=8.6,
        nose_height=0.80,
        eye_y=30.8,
        eye_dx=18.0,
        eye_size=1.02,
        eye_tilt=0.09,
        monolid=0.6,
        brow_y=19.4,
        brow_dx=18.2,
        brow_thickness=0.75,
        brow_arch=0.55,
        iris=(0.040, 0.020, 0.012),
        hair=(0.014, 0.011, 0.011),
        hair_style="bob",
        beard=0.0,
        moustache=0.0,
        glasses=0.0,
        clothing=(0.52, 0.47, 0.41),
        texture_seed=97 * 31 + 5,
        skew=0.25,
    )
    light = dataclasses.replace(
        _mirrored(_WINDOW), background=((0.46, 0.37, 0.34), (0.27, 0.21, 0.20))
    )
    return Expression(smile=0.62, brow=0.15, squint=0.12).worn_by(face), light


def amara() -> Person:
    """A dark-skinned woman with short curls."""
    face = dataclasses.replace(
        _average(4),
        masculine=0.05,
        age=0.1,
        skin=(0.205, 0.106, 0.065),
        redness=0.5,
        freckles=0.0,
        face_width=0.955,
        jaw_width=0.90,
        chin_y=87.2,
        chin_width=0.86,
        cheek=0.7,
        mouth_y=66.6,
        mouth_half=14.0,
        upper_lip=5.2,
        lower_lip=6.6,
        bow=0.7,
        corner_lift=0.75,
        lip=(0.215, 0.070, 0.062),
        lipstick=0.3,
        lip_gloss=0.42,
        nose_base=54.0,
        nose_half=10.0,
        nose_height=0.86,
        eye_y=30.6,
        eye_dx=18.2,
        eye_size=1.0,
        eye_tilt=0.06,
        monolid=0.0,
        brow_y=19.0,
        brow_dx=18.4,
        brow_thickness=0.85,
        brow_arch=0.9,
        iris=(0.045, 0.022, 0.012),
        hair=(0.016, 0.012, 0.011),
        hair_style="curly",
        beard=0.0,
        moustache=0.0,
        glasses=0.0,
        clothing=(0.48, 0.30, 0.10),
        texture_seed=4021,
        skew=-0.3,
    )
    light = dataclasses.replace(
        _WINDOW,
        rim_colour=(0.95, 0.88, 0.78),
        background=((0.30, 0.33, 0.30), (0.15, 0.17, 0.155)),
    )
    return Expression(smile=0.7, brow=0.1, squint=0.2).worn_by(face), light


def henrik() -> Person:
    """A man of sixty with grey hair and glasses."""
    face = dataclasses.replace(
        _average(4),
        masculine=0.85,
        age=0.72,
        skin=(0.69, 0.455, 0.345),
        redness=0.7,
        freckles=0.0,
        face_width=1.0,
        jaw_width=0.985,
        chin_y=88.4,
        chin_width=1.05,
        cheek=0.45,
        mouth_y=67.0,
        mouth_half=14.2,
        upper_lip=3.3,
        lower_lip=4.6,
        bow=0.4,
        corner_lift=0.5,
        lip=(0.46, 0.235, 0.205),
        lipstick=0.0,
        lip_gloss=0.14,
        nose_base=54.8,
        nose_half=9.4,
        nose_height=1.12,
        eye_y=30.8,
        eye_dx=18.0,
        eye_size=0.97,
        eye_tilt=-0.02,
        monolid=0.0,
        brow_y=20.0,
        brow_dx=18.4,
        brow_thickness=1.1,
        brow_arch=0.5,
        iris=(0.090, 0.150, 0.190),
        hair=(0.36, 0.35, 0.335),
        hair_style="short",
        beard=0.0,
        moustache=0.0,
        glasses=1.0,
        clothing=(0.080, 0.100, 0.135),
        texture_seed=90210,
        skew=0.4,
    )
    light = dataclasses.replace(_WINDOW, background=((0.40, 0.34, 0.27), (0.20, 0.165, 0.13)))
    return Expression(smile=0.7, brow=0.15, squint=0.28).worn_by(face), light
