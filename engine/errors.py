"""The exceptions of Lipwire's engine.

    LipwireError
    ├── ConfigError            a setting or a model.json that cannot be used
    ├── ModelError             a model folder that cannot be loaded
    │   └── StateDictMismatch  missing, unexpected or misshapen weight keys
    ├── FetchError             a published model that cannot be brought
    ├── MediaError             a picture, sound or file that cannot be used
    │   ├── AudioFormatError   samples of the wrong type, shape or range
    │   └── VideoFormatError   a frame of the wrong type, shape or size
    ├── AvatarError            an avatar folder or clip that cannot be used
    ├── BackendError           a backend that is absent or refused the model
    │   ├── PlanError          a compiled plan that cannot be trusted or kept
    │   │   └── PlanMissing    a plan that is not there, where none is to be built
    │   └── DeviceError        a call that a GPU or its driver refused
    │       └── OutOfDeviceMemory  of which there was too little
    └── StreamError            a stream used against its state
        ├── NeedMoreAudio      audio asked for has not arrived yet
        └── StreamClosed       pushed to after close or flush

Every message says what was expected and what came.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class LipwireError(Exception):
    """Base of every error that Lipwire raises on purpose."""


class ConfigError(LipwireError):
    """A setting or a `model.json` value that cannot be used."""


class ModelError(LipwireError):
    """A model folder that cannot be loaded."""


class StateDictMismatch(ModelError):
    """Weights whose keys or shapes differ from the architecture's.

    Attributes:
        missing: keys the architecture needs and the file lacks.
        unexpected: keys the file has and the architecture does not.
        misshapen: key -> (expected shape, shape in the file).

    The message names the first few of each and counts the rest.
    """

    _SHOWN = 8

    def __init__(
        self,
        source: str,
        missing: Sequence[str] = (),
        unexpected: Sequence[str] = (),
        misshapen: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] | None = None,
    ) -> None:
        self.missing = list(missing)
        self.unexpected = list(unexpected)
        self.misshapen = dict(misshapen or {})
        lines = [f"{source}: the weights do not fit the architecture"]
        shapes = [
            f"{key}: expected {want}, found {have}" for key, (want, have) in self.misshapen.items()
        ]
        for kind, found in (
            ("missing", self.missing),
            ("unexpected", self.unexpected),
            ("misshapen", shapes),
        ):
            lines += [f"  {kind:<11} {text}" for text in found[: self._SHOWN]]
            if len(found) > self._SHOWN:
                lines.append(f"  {kind:<11} ... {len(found) - self._SHOWN} more of {len(found)}")
        super().__init__("\n".join(lines))


class FetchError(LipwireError):
    """A published model that cannot be brought: network, disk, or other bytes than expected."""


class MediaError(LipwireError):
    """A picture, sound or file that cannot be used."""


class AudioFormatError(MediaError):
    """Samples of the wrong type, shape or range."""


class VideoFormatError(MediaError):
    """A frame of the wrong type, shape or size."""


class AvatarError(LipwireError):
    """An avatar folder or clip that cannot be used."""


class BackendError(LipwireError):
    """A backend that is absent or refused the model."""


class PlanError(BackendError):
    """A compiled plan on disk that cannot be trusted, or cannot be kept there."""


class DeviceError(BackendError):
    """A call that a GPU or its driver refused."""


class OutOfDeviceMemory(DeviceError):
    """A GPU has less memory left than was asked for."""


class PlanMissing(PlanError):
    """A plan that can be used is not in the cache, and none is to be built just now."""


class StreamError(LipwireError):
    """A stream used against its state."""


class NeedMoreAudio(StreamError):
    """Audio that was asked for has not arrived yet."""


class StreamClosed(StreamError):
    """Something was pushed to a stream after its end."""
