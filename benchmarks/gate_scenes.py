"""Pictures of heads for the gate's benchmark: talking, turning, covered, several, through a camera.

A head is turned on an ellipsoid: what is seen at angle a of its surface was seen at a - yaw
before. That foreshortens a face as a turn does and brings the side of the head into view, but
a nose doesn't stand out of its cheek. The renderer's own poses do that, up to about 40 degrees.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.media import F32, U8, Picture
from training.faces.avatars import cast
from training.faces.eyes import Gaze
from training.faces.identity import SKIN_TONES, Colour, Identity
from training.faces.light import Light
from training.faces.portrait import Framing, PortraitRenderer
from training.faces.pose import Pose
from training.faces.tracks import babble_track, head_motion

EYES_UNITS: Final = 37.2  # between the brows' centres, in units of the face template
BACKDROP: Final = (96, 104, 112)
Occluder = Literal["hand", "bare hand", "microphone", "cup", "phone", "mask"]
OCCLUDERS: Final[tuple[Occluder, ...]] = (
    "hand",
    "bare hand",
    "microphone",
    "cup",
    "phone",
    "mask",
)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who can be rendered.

    Attributes:
        lights: the first is usual, the second comes up in light changes.
    """

    name: str
    identity: Identity
    lights: tuple[Light, Light]


@functools.cache
def people(count: int) -> tuple[Person, ...]:
    """The bundled three, then random identities, bearded and made up among them."""
    rng = np.random.default_rng(17)
    result = [
        Person(member.name, member.identity, (member.light, Light.sample(rng))) for member in cast()
    ]
    seed = 0
    while len(result) < count:
        seed += 1
        random = np.random.default_rng((99, seed))
        lights = (Light.sample(random), Light.sample(random))
        result.append(Person(f"random {seed}", Identity.sample(random), lights))
    return tuple(result[:count])


def in_tone(person: Person, tone: int) -> Person:
    """The same person in another skin, the bare part of the lips with it.

    Args:
        tone: index in `SKIN_TONES`, 0 the lightest.
    """
    identity = person.identity
    skin = np.asarray(SKIN_TONES[tone])
    lip, paint = np.asarray(identity.lip), identity.lipstick
    lip = (1.0 - paint) * lip * skin / np.asarray(identity.skin) + paint * lip
    changed = dataclasses.replace(identity, skin=_linear(skin), lip=_linear(lip))
    return dataclasses.replace(person, name=f"{person.name}, tone {tone}", identity=changed)


def _linear(colour: NDArray[np.float64]) -> Colour:
    red, green, blue = np.clip(colour, 0.002, 0.95).tolist()
    return red, green, blue


@functools.lru_cache(maxsize=3)
def _renderer(person: Person, light: int) -> PortraitRenderer:
    return PortraitRenderer.build(person.identity, person.lights[light], Framing())


@dataclass(frozen=True, slots=True)
class Head:
    """One rendered picture.

    Attributes:
        picture: uint8 RGB [512, 512, 3].
        points: float32 [3, 2], left brow, right brow, nose.
    """

    picture: U8
    points: F32

    @property
    def unit(self) -> float:
        """Pixels of a unit of the face template."""
        return float(np.hypot(*(self.points[1] - self.points[0]))) / EYES_UNITS

    @property
    def middle(self) -> F32:
        """[2]: between the brows."""
        return np.asarray(self.points[:2].mean(axis=0), np.float32)

    def at(self, x: float, y: float) -> F32:
        """[2]: a place in units from between the brows, down positive."""
        return np.asarray(self.middle + self.unit * np.array([x, y]), np.float32)


def talking_heads(
    person: Person, frames: int, seed: int, *, lively: float = 0.7, light: Sequence[float] = ()
) -> list[Head]:
    """A head that talks, moves and blinks.

    Args:
        lively: of the head's motion.
        light: share of the person's other light in each picture; none at all by default.
    """
    rng = np.random.default_rng(seed)
    mouth = babble_track(frames, rng)
    motion = head_motion(frames, lively, rng)
    blinks = rng.integers(10, 110, 1 + frames // 60).cumsum()
    heads = []
    for index in range(frames):
        since = min((index - start for start in blinks if index >= start), default=99)
        lids = (0.35, 0.9, 1.0, 0.75, 0.4, 0.12)
        gaze = Gaze(blink=lids[since] if since < len(lids) else 0.0)
        picture, points = _renderer(person, 0).render(mouth[index], motion[index], gaze)
        share = light[index] if len(light) else 0.0
        if share > 0.0:
            other, _ = _renderer(person, 1).render(mouth[index], motion[index], gaze)
            picture = np.asarray(cv2.addWeighted(picture, 1 - share, other, share, 0.0), np.uint8)
        heads.append(Head(picture, points))
    return heads


def posed_heads(person: Person, yaw_degrees: Sequence[float], seed: int) -> list[Head]:
    """A talking head that the renderer turns; it tears beyond 40 degrees."""
    rng = np.random.default_rng(seed)
    mouth = babble_track(len(yaw_degrees), rng)
    heads = []
    for row, yaw in zip(mouth, yaw_degrees, strict=True):
        heads.append(Head(*_renderer(person, 0).render(row, Pose(yaw=float(np.radians(yaw))))))
    return heads


def turned(head: Head, yaw_degrees: float) -> Head:
    """The head turned to the picture's right on its ellipsoid, the backdrop left alone."""
    if yaw_degrees == 0.0:
        return head
    height, width = head.picture.shape[:2]
    yaw = np.radians(yaw_degrees)
    centre = head.at(0.0, 22.0)
    half_x, half_y = 41.0 * head.unit, 74.0 * head.unit
    columns, rows = np.meshgrid(
        np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    )
    down = (rows - centre[1]) / half_y
    radius = half_x * np.sqrt(np.clip(1.0 - down * down, 1e-6, 1.0))
    across = (columns - centre[0]) / radius
    inside = (np.abs(down) < 1.0) & (np.abs(across) < 1.0)
    angle = np.arcsin(np.clip(across, -1.0, 1.0)) - yaw
    # The back of the head was never seen: the side that was stands in for it, mirrored.
    angle = np.where(angle > np.pi / 2, np.pi - angle, angle)
    angle = np.where(angle < -np.pi / 2, -np.pi - angle, angle)
    source_x = np.where(inside, centre[0] + 0.97 * radius * np.sin(angle), columns)
    picture = cv2.remap(
        head.picture,
        source_x.astype(np.float32),
        rows,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    points = head.points.copy()
    for point in points:
        lean = np.sqrt(max(1.0 - ((point[1] - centre[1]) / half_y) ** 2, 1e-6)) * half_x
        place = np.arcsin(np.clip((point[0] - centre[0]) / lean, -1.0, 1.0))
        point[0] = centre[0] + lean * np.sin(place + yaw)
    return Head(np.asarray(picture, np.uint8), points)


def covered(head: Head, kind: Occluder, progress: float, seed: int = 0) -> Head:
    """The head with something before its mouth.

    Args:
        progress: 0.0 out of sight below or beside the face, 1.0 before the mouth.
    """
    if progress <= 0.0:
        return head
    rng = np.random.default_rng((OCCLUDERS.index(kind), seed))
    unit = head.unit
    from_x, from_y = (70.0, 95.0) if kind in ("hand", "bare hand", "phone") else (0.0, 110.0)
    x = (1.0 - progress) * from_x + rng.uniform(-3.0, 3.0)
    y = 48.0 + (1.0 - progress) * from_y + rng.uniform(-2.0, 2.0)
    layer = head.picture.astype(np.float32)
    opacity = np.zeros(head.picture.shape[:2], np.float32)
    skin = _skin(head)
    if kind in ("hand", "bare hand"):
        # A hand in another person's light, or one with just the skin and light of the face.
        tone = skin * (0.82 if kind == "hand" else 1.0)
        _hand(layer, opacity, head, (x, y), tone, soft=kind == "bare hand")
    elif kind == "microphone":
        _blob(layer, opacity, head.at(x, y), (13 * unit, 15 * unit), (38, 38, 42), 7.0, rng)
        _bar(layer, opacity, head.at(x, y + 12), head.at(x + 4, y + 90), 7 * unit, (60, 60, 66))
    elif kind == "cup":
        corners = [(x - 21, y - 12), (x + 21, y - 12), (x + 17, y + 36), (x - 17, y + 36)]
        _polygon(layer, opacity, [head.at(*corner) for corner in corners], (222, 214, 202))
        _polygon(
            layer,
            opacity,
            [head.at(x + side * 10, y + 8) for side in (-1, 1)]
            + [head.at(x + side * 8, y + 22) for side in (1, -1)],
            (150, 60, 50),
        )
    elif kind == "phone":
        corners = [(x - 18, y - 22), (x + 18, y - 20), (x + 16, y + 46), (x - 20, y + 44)]
        _polygon(layer, opacity, [head.at(*corner) for corner in corners], (24, 26, 30))
    else:  # a face mask that is pulled up
        y = 44.0 + (1.0 - progress) * 60.0
        corners = [
            (-31, y - 18),
            (0, y - 26),
            (31, y - 18),
            (24, y + 28),
            (0, y + 36),
            (-24, y + 28),
        ]
        _polygon(layer, opacity, [head.at(*corner) for corner in corners], (148, 190, 208))
    opacity = np.asarray(cv2.GaussianBlur(opacity, (0, 0), 0.7), np.float32)[..., None]
    mixed = head.picture * (1.0 - opacity) + layer * opacity
    return Head(np.clip(np.rint(mixed), 0, 255).astype(np.uint8), head.points)


def _skin(head: Head) -> F32:
    """[3] the colour of the cheeks."""
    patches = []
    for side in (-1, 1):
        x, y = head.at(side * 16.0, 32.0).astype(int)
        reach = max(int(3 * head.unit), 1)
        patches.append(head.picture[y - reach : y + reach, x - reach : x + reach].reshape(-1, 3))
    return np.asarray(np.median(np.concatenate(patches), axis=0), np.float32)


def _hand(
    layer: F32, opacity: F32, head: Head, place: tuple[float, float], tone: F32, *, soft: bool
) -> None:
    """Four fingers across the mouth, each shaded round, and the back of the hand."""
    x, y = place
    unit = head.unit
    width = 9.0 * unit
    for finger in range(4):
        offset = (finger - 1.5) * 8.2
        tip, root = head.at(x - 24 + 1.5 * abs(finger - 1), y + offset), head.at(x + 26, y + offset)
        _bar(layer, opacity, tip, root, width, tone, round_=0.16 if soft else 0.3)
    _blob(layer, opacity, head.at(x + 40, y + 4), (24 * unit, 22 * unit), tone, 3.0, None)


def _bar(
    layer: F32,
    opacity: F32,
    start: F32,
    end: F32,
    width: float,
    colour: Sequence[float] | F32,
    round_: float = 0.4,
) -> None:
    height, columns = opacity.shape
    u, v = np.meshgrid(np.arange(columns, dtype=np.float32), np.arange(height, dtype=np.float32))
    along = end - start
    length = float(np.hypot(*along)) + 1e-6
    dx, dy = u - start[0], v - start[1]
    t = np.clip((dx * along[0] + dy * along[1]) / length**2, 0.0, 1.0)
    distance = np.hypot(dx - t * along[0], dy - t * along[1]) / (width / 2)
    inside = distance < 1.0
    shade = 1.0 - round_ * distance[inside] ** 2
    layer[inside] = shade[:, None] * np.asarray(colour, np.float32)
    opacity[inside] = 1.0


def _blob(
    layer: F32,
    opacity: F32,
    centre: F32,
    radii: tuple[float, float],
    colour: Sequence[float] | F32,
    grain: float,
    rng: np.random.Generator | None,
) -> None:
    height, columns = opacity.shape
    u, v = np.meshgrid(np.arange(columns, dtype=np.float32), np.arange(height, dtype=np.float32))
    x, y = (u - centre[0]) / radii[0], (v - centre[1]) / radii[1]
    inside = x * x + y * y < 1.0
    shade = 1.0 - 0.3 * (x + y)[inside].clip(-1, 1) ** 2 - 0.1 * x[inside]
    paint = shade[:, None] * np.asarray(colour, np.float32)
    if rng is not None:
        paint = paint + rng.normal(0, grain, paint.shape)
    layer[inside] = paint
    opacity[inside] = 1.0


def _polygon(layer: F32, opacity: F32, corners: Sequence[F32], colour: Sequence[float]) -> None:
    filled = np.zeros(opacity.shape, np.uint8)
    cv2.fillPoly(filled, [np.rint(np.stack(corners)).astype(np.int32)], 1)
    inside = filled == 1
    columns = np.nonzero(inside)[1]
    if len(columns) == 0:
        return
    middle, half = (columns.min() + columns.max()) / 2, max((np.ptp(columns)) / 2, 1.0)
    shade = 1.0 - 0.25 * ((columns - middle) / half) ** 2
    layer[inside] = shade[:, None] * np.asarray(colour, np.float32)
    opacity[inside] = 1.0


@dataclass(frozen=True, slots=True)
class Placed:
    """A head in a larger picture.

    Attributes:
        scale: of its 512 x 512 picture.
        x, y: where the middle of it goes, in shares of the picture.
    """

    head: Head
    scale: float = 1.0
    x: float = 0.5
    y: float = 0.5


def compose(placed: Sequence[Placed], width: int, height: int) -> U8:
    """uint8 RGB [height, width, 3]: heads as on separate screens, the later before the earlier.

    Only the ellipse around each head is shown, its edge soft.
    """
    result: F32 = np.empty((height, width, 3), np.float32)
    result[:] = np.asarray(BACKDROP, np.float32)
    result += 14.0 * np.sin(np.arange(width, dtype=np.float32) / 37.0)[None, :, None]
    for item in placed:
        head = item.head
        motion = np.array(
            [
                [item.scale, 0.0, item.x * width - item.scale * 256],
                [0.0, item.scale, item.y * height - item.scale * 256],
            ],
            np.float32,
        )
        mask = np.zeros((512, 512), np.float32)
        centre = head.at(0.0, 26.0)
        axes = (int(56 * head.unit), int(86 * head.unit))
        cv2.ellipse(mask, (int(centre[0]), int(centre[1])), axes, 0, 0, 360, 1.0, -1)
        mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), 4.0), np.float32)
        picture = cv2.warpAffine(
            head.picture,
            motion,
            (width, height),
            flags=cv2.INTER_AREA,
            borderMode=cv2.BORDER_REPLICATE,
        )
        share = cv2.warpAffine(mask, motion, (width, height))[..., None]
        result = np.asarray(result * (1.0 - share) + picture * share, np.float32)
    return np.clip(np.rint(result), 0, 255).astype(np.uint8)


def framed(head: Head, width: int, height: int) -> tuple[U8, F32]:
    """The head's whole picture in one of another size, and its points there."""
    scale = height / 512
    shift = (width - 512 * scale) / 2
    motion = np.array([[scale, 0.0, shift], [0.0, scale, 0.0]], np.float32)
    picture = cv2.warpAffine(
        head.picture,
        motion,
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(picture, np.uint8), np.asarray(head.points * scale + motion[:, 2], np.float32)


@dataclass(frozen=True, slots=True)
class Camera:
    """What a camera and its codec add.

    Attributes:
        noise: deviation in levels.
        blur: sigma in pixels.
        quality: of JPEG, 0 to 100; 0: not compressed.
        gain: of the exposure.
        balance: gains of red, green and blue.
    """

    noise: float = 2.0
    blur: float = 0.4
    quality: int = 60
    gain: float = 1.0
    balance: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def shoot(self, rgb: U8, seed: int) -> Picture:
        """The picture that arrives."""
        gains = self.gain * np.asarray(self.balance, np.float32)
        image: F32 = np.asarray(rgb * gains, np.float32)
        if self.blur > 0.0:
            image = np.asarray(cv2.GaussianBlur(image, (0, 0), self.blur), np.float32)
        if self.noise > 0.0:
            rng = np.random.default_rng(seed)
            noise = self.noise * rng.standard_normal(image.shape, np.float32)
            image = np.asarray(image + noise, np.float32)
        shot = np.clip(np.rint(image), 0, 255).astype(np.uint8)
        if self.quality:
            bgr = np.ascontiguousarray(shot[..., ::-1])
            _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
            shot = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)[..., ::-1]
        return Picture(
            np.asarray(cv2.cvtColor(np.ascontiguousarray(shot), cv2.COLOR_RGB2YUV_I420), np.uint8)
        )
