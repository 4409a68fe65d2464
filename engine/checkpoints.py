"""Finding a model folder, verifying it, loading its weights.

torch is imported when weights are loaded, not when this module is.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import ModelError
from engine.spec import ModelSpec

if TYPE_CHECKING:
    import torch

    from engine.models.kl_vae import KlCodec
    from engine.models.tiny_codec import TinyCodec
    from engine.models.unet import UNet3DConditionModel
    from engine.models.whisper import WhisperEncoder

BUNDLED = "bundled"
_BUNDLED_DIR = Path(__file__).parent / "bundled" / "model"
_HASH_BLOCK_BYTES = 1 << 20

UNET_FILE = "unet.safetensors"
CODEC_FILE = "codec.safetensors"
AUDIO_ENCODER_FILE = "audio_encoder.safetensors"


def resolve_model(name: str | Path) -> Path:
    """The folder of a model.

    Args:
        name: "bundled", or the path of a folder with a `model.json`.

    Raises:
        ModelError: there is no such folder.
    """
    folder = _BUNDLED_DIR if str(name) == BUNDLED else Path(name)
    if not (folder / "model.json").is_file():
        raise ModelError(
            f"expected {BUNDLED!r} or a folder with a model.json, found none at {folder}"
        )
    return folder


def verify_digests(folder: Path, spec: ModelSpec) -> None:
    """Raises ModelError unless every file that the spec names is there, byte for byte."""
    for name, want in spec.digests.items():
        path = folder / name
        if not path.is_file():
            raise ModelError(f"expected {name} in {folder}, found no such file")
        have = file_digest(path)
        if have != want:
            raise ModelError(f"{path}: expected SHA-256 {want}, got {have}")


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK_BYTES):
            digest.update(block)
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
) -> TinyCodec | KlCodec:
    """The folder's picture codec, on `device`, in `dtype` (float32); "kl" needs diffusers.

    Raises:
        ModelError: its weights cannot be read, or do not fit (StateDictMismatch).
    """
    from engine.models.build import build_codec, load_module

    path = folder / CODEC_FILE
    if spec.codec.kind == "tiny":
        return load_module(lambda: build_codec(spec), path, device, dtype)
    try:
        from engine.models.kl_vae import KlCodec
    except ImportError as error:
        raise ModelError(
            f"{spec.name}: its codec needs diffusers, install lipwire[latentsync] ({error})"
        ) from error
    return load_module(
        lambda: KlCodec(spec.codec),
        path,
        device,
        dtype,
        part=lambda codec: codec.vae,  # keys are those of diffusers
    )
