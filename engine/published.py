"""The published models: what they are, and where each of their files lies on the hub.

Repositories and paths are those of LatentSync's own `setup_env.sh`, `scripts/inference.py`
and `latentsync/utils/face_detector.py` (github.com/bytedance/LatentSync): the U-Net and
Whisper-tiny from ByteDance's repository, the codec from stabilityai's. The two InsightFace
models are files of its pack `buffalo_l`, which upstream downloads as one archive of 280 MB
from a GitHub release; here the two that it uses come from the hub, where LivePortrait's
publisher keeps the same bytes. The sync network lies beside the U-Net (LatentSync's README on
training); inference does not need it. (The hub's folder `auxiliary/` holds networks of
training and evaluation, none of inference.)

Sizes and SHA-256 are those under which the files have been on the hub since they were
published. Nothing here was tuned on the published weights: see `docs/numerics.md`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from engine.face.align import latentsync_face
from engine.spec import AudioSpec, CodecSpec, ModelSpec, UNetSpec

FACE_DETECTOR_FILE = "det_10g.onnx"
FACE_LANDMARKS_FILE = "2d106det.onnx"

LICENCE = "OpenRAIL++ (LatentSync), MIT (Whisper-tiny, sd-vae-ft-mse)"
FACE_LICENCE = "InsightFace's models: non-commercial research only"


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file on the hub.

    Attributes:
        repo: "owner/name" of the repository.
        path: inside it.
        size: bytes.
        sha256: what the bytes must hash to; "": whatever the hub itself promises.
        revision: branch, tag or commit.
    """

    repo: str
    path: str
    size: int
    sha256: str = ""
    revision: str = "main"

    @property
    def name(self) -> str:
        """The path's last part."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """A model that `lipwire fetch` brings.

    Attributes:
        spec: its `model.json`, without digests.
        unet, audio_encoder, codec: weights, to be converted.
        faces: taken as they are.
        other_mask: the file of LatentSync's repository with the mask that it was trained with,
            where that is not 1.5's outline (`FaceSpec.mask`).
    """

    spec: ModelSpec
    unet: HubFile
    audio_encoder: HubFile
    codec: HubFile
    faces: tuple[HubFile, ...] = ()
    other_mask: str | None = None

    @property
    def files(self) -> tuple[HubFile, ...]:
        """Everything to bring, the largest first."""
        return (self.unet, self.codec, self.audio_encoder, *self.faces)


@dataclass(frozen=True, slots=True)
class PublishedSyncnet:
    """A sync network that `lipwire fetch` brings.

    Attributes:
        name: of its folder among the models.
        weights: taken as they are (`engine.models.syncnet`).
    """

    name: str
    licence: str
    weights: HubFile


# What follows from `python -m benchmarks.audio_features` (`docs/numerics.md`): the shortest
# look-ahead, then buffer, at which context costs a stream's features no more than a recording's
# vary by when it begins five seconds later. The guard is 40 ms of look-ahead, the tail none. The
# ten steps come to lie 3.7 s after the table's first row, inside the clips of 5 to 10 s that
# LatentSync was trained on.
WHISPER_TINY = AudioSpec(
    positions=200, guard=2, tail=4, table_positions=1500, floor="running", log_floor=-8.0
)

# Two steps, spaced by error gain rather than evenly: an error in the predicted noise reaches
# the clean latents 14.6-fold at 999 and 3.3-fold at 699 (5.1 at 799, 1.6 at 499, where too
# little noise is left to mend what the first step got wrong). From noise: a warm start is
# cheaper by a step, but feeds each hop's output to the next, and its drift has to be
# measured with these weights first. No guidance: it doubles the cost of a step.
LATENTSYNC_1_5 = ModelSpec(
    name="latentsync-1.5",
    licence=LICENCE,
    resolution=256,
    audio=WHISPER_TINY,
    unet=UNetSpec(),
    codec=CodecSpec(kind="kl"),
    face=latentsync_face(256),
    prediction_type="epsilon",
    timesteps=(999, 699),
    start="noise",
    carry="pinned",
    reference="frame",
    window_frames=16,
    hop_frames=4,
    guidance_scale=1.0,
)

# The same network, trained at 512 x 512 and with another mask, which is not on the hub
# (upstream's configs/unet/stage2_512.yaml, which its inference reads too).
LATENTSYNC_1_6 = replace(
    LATENTSYNC_1_5, name="latentsync-1.6", resolution=512, face=latentsync_face(512)
)

_WHISPER_TINY = "65147644a518d12f04e32d6f3b26facc3f8dd46e5390956a9424a650c0ce22b9"
_CODEC = HubFile(
    "stabilityai/sd-vae-ft-mse",
    "diffusion_pytorch_model.safetensors",
    334_643_276,
    "a1d993488569e928462932c8c38a0760b874d166399b14414135bd9c42df5815",
)
_FACES = (
    HubFile(
        "KwaiVGI/LivePortrait",
        f"insightface/models/buffalo_l/{FACE_DETECTOR_FILE}",
        16_923_827,
        "5838f7fe053675b1c7a08b633df49e7af5495cee0493c7dcf6697200b85b5b91",
    ),
    HubFile(
        "KwaiVGI/LivePortrait",
        f"insightface/models/buffalo_l/{FACE_LANDMARKS_FILE}",
        5_030_888,
        "f001b856447c413801ef5c42091ed0cd516fcd21f2d6b79635b1e733a7109dbf",
    ),
)

PUBLISHED = {
    spec.name: PublishedModel(
        spec=spec,
        unet=HubFile(repo, "latentsync_unet.pt", unet_size, unet_sha256),
        audio_encoder=HubFile(repo, "whisper/tiny.pt", 75_572_083, _WHISPER_TINY),
        codec=_CODEC,
        faces=_FACES,
        other_mask=other_mask,
    )
    for spec, repo, unet_size, unet_sha256, other_mask in (
        (
            LATENTSYNC_1_5,
            "ByteDance/LatentSync-1.5",
            5_072_348_184,
            "6440b49a7ccceff56cdc001f5f17605216337f5bbd66fa360139768926e23f51",
            None,
        ),
        (
            LATENTSYNC_1_6,
            "ByteDance/LatentSync-1.6",
            5_072_222_488,
            "0a478e89eb660f82da4c35dbdde8a5adfb27f99d1b4e50edd03729e1e98316d3",
            "latentsync/utils/mask2.png",
        ),
    )
}

# 401 306 080 weights in f32. Their digests have never been seen from here: what the hub
# promises holds, and every key and shape is checked before the file is kept.
_SYNCNET_BYTES = 1_605_224_320

PUBLISHED_SYNCNETS = {
    f"{spec.name}-syncnet": PublishedSyncnet(
        f"{spec.name}-syncnet",
        "OpenRAIL++ (LatentSync)",
        HubFile(repo, "stable_syncnet.pt", _SYNCNET_BYTES),
    )
    for spec, repo in (
        (LATENTSYNC_1_5, "ByteDance/LatentSync-1.5"),
        (LATENTSYNC_1_6, "ByteDance/LatentSync-1.6"),
    )
}
