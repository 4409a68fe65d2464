"""Finding a model folder, verifying it, loading its weights.

    resolve_model("bundled"), resolve_model("latentsync-1.5"), resolve_model("path/of/a/folder")

torch is imported when weights are loaded, not when this module is.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import ModelError
from engine.published import PUBLISHED
from engine.spec import ModelSpec

if TYPE_CHECKING:
    import torch

    from engine.models.build import AnyCodec
    from engine.models.unet import UNet3DConditionModel
    from engine.models.whisper import WhisperEncoder

BUNDLED = "bundled"
MODELS_VARIABLE = "LIPWIRE_MODELS_DIR"
_BUNDLED_DIR = Path(__file__).parent / "bundled" / "model"
_HASH_BLOCK_BYTES = 1 << 20

MODEL_FILE = "model.json"
UNET_FILE = "unet.safetensors"
CODEC_FILE = "codec.safetensors"
TINY_DECODER_FILE = "tiny_decoder.safetensors"  # where model.json says codec.decoder = taesd
AUDIO_ENCODER_FILE = "audio_encoder.safetensors"


def models_dir() -> Path:
    """The folder that `lipwire fetch` brings models into, a folder each.

    `LIPWIRE_MODELS_DIR`, else `lipwire/models` in the user's data folder (XDG).
    """
    if chosen := os.environ.get(MODELS_VARIABLE):
        return Path(chosen).expanduser()
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "lipwire" / "models"


def resolve_model(name: str | Path) -> Path:
    """The folder of a model.

    Args:
        name: "bundled", the name of a model in `models_dir`, or the path of a folder with
            a `model.json`.

    Raises:
        ModelError: there is no such folder.
    """
    if str(name) == BUNDLED:
        return _BUNDLED_DIR
    given, fetched = Path(name), models_dir() / name
    for folder in (fetched, given) if str(name) in PUBLISHED else (given, fetched):
        if (folder / MODEL_FILE).is_file():
            return folder
    if str(name) in PUBLISHED:
        raise ModelError(f"{name} is not in {models_dir()}; to bring it: lipwire fetch {name}")
    raise ModelError(
        f"expected {BUNDLED!r}, one of {', '.join(PUBLISHED)} "
        f"or a folder with a {MODEL_FILE}, found none at {name}"
    )


def altered_files(
    folder: Path, spec: ModelSpec, progress: Callable[[int], object] = lambda _: None
) -> list[str]:
    """A sentence for every file of the spec that is missing or not as recorded."""
    return [
        f"{name} is {'altered' if (folder / name).is_file() else 'missing'}"
        for name, digest in sorted(spec.digests.items())
        if not (folder / name).is_file() or file_digest(folder / name, progress) != digest
    ]


def verify_digests(folder: Path, spec: ModelSpec) -> None:
    """Raises ModelError unless every file that the spec names is there, byte for byte."""
    for name, want in spec.digests.items():
        path = folder / name
        if not path.is_file():
            raise ModelError(f"expected {name} in {folder}, found no such file")
        have = file_digest(path)
        if have != want:
            raise ModelError(f"{path}: expected SHA-256 {want}, got {have}")


def file_digest(path: Path, progress: Callable[[int], object] = lambda _: None) -> str:
    """The SHA-256 of a file, in hexadecimal; `progress` is told every block's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK_BYTES):
            digest.update(block)
            progress(len(block))
    return digest.hexdigest()


def load_unet(
    folder: Path,
    spec: ModelSpec,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> UNet3DConditionModel:
    """The folder's denoiser, on `device`, in `dtype` (float32).

    Raises:
        ModelError: its weights cannot be read, or do not fit (StateDictMismatch).
    """
    from engine.models.build import build_unet, load_module

    path = folder / UNET_FILE
    return load_module(lambda: build_unet(spec), path, device, dtype)


def load_audio_encoder(
    folder: Path,
    spec: ModelSpec,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> WhisperEncoder:
    """The folder's audio encoder, on `device`, in `dtype` (float32).

    Raises:
        ModelError: its weights cannot be read, or do not fit (StateDictMismatch).
    """
    from engine.models.build import build_audio_encoder, load_module

    path = folder / AUDIO_ENCODER_FILE
    return load_module(lambda: build_audio_encoder(spec), path, device, dtype)


def load_codec(
    folder: Path,
    spec: ModelSpec,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> AnyCodec:
    """The folder's picture codec, on `device`, in `dtype` (float32).

    A tiny decoder beside a KL encoder is read from a file of its own; the other
    file holds the whole KL codec all the same.

    Raises:
        ModelError: its weights cannot be read, or do not fit (StateDictMismatch).
    """
    from engine.models.build import build_codec, load_module

    path = folder / CODEC_FILE
    if spec.codec.decoder == "own":
        return load_module(lambda: build_codec(spec), path, device, dtype)
    from engine.models.kl_vae import KlCodec
    from engine.models.taesd import KlTaesdCodec, decoder_alone

    kl = load_module(lambda: KlCodec(spec.codec), path, device, dtype)
    tiny_path = folder / TINY_DECODER_FILE
    tiny = load_module(lambda: decoder_alone(spec.codec), tiny_path, device, dtype)
    return KlTaesdCodec(kl, tiny).eval()
