"""Settings of the server: command line over environment over file over default.

    lipwire serve --config lipwire.toml --port 9000
    LIPWIRE_MAX_SESSIONS=4 lipwire serve

The TOML file holds the same names as this class, at its top level.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from engine.checkpoints import MODELS_VARIABLE
from engine.errors import ConfigError
from engine.plans.cache import DEFAULT_MAX_BYTES, PlanCache
from engine.spec import CarryMode, ReferenceMode, StartMode
from server.access.origins import is_loopback
from server.access.token_secret import VARIABLE as TOKEN_SECRET_VARIABLE
from server.access.token_secret import default_secret_path
from server.logs import LogFormat

REPOSITORY = Path(__file__).resolve().parent.parent
BUNDLED_AVATARS = REPOSITORY / "engine" / "bundled" / "avatars"
CLIENT_WEB = REPOSITORY / "client_web"
STREAMS_CORE = "server.engine_process.streams:StreamsCore"
PASSTHROUGH_CORE = "server.engine_process.core:PassthroughCore"

ENVIRONMENT_PREFIX = "LIPWIRE_"
OTHER_VARIABLES = (TOKEN_SECRET_VARIABLE, MODELS_VARIABLE)  # read, and no settings
ICE_URL = re.compile(r"(stun|turn)s?:[A-Za-z0-9.:\[\]_-]+(\?transport=(udp|tcp))?")

LogLevel = Literal["debug", "info", "warning", "error"]


def _ip_address(value: str) -> str:
    """The address as it is usually written.

    Raises:
        ValueError: it is none.
    """
    return str(ipaddress.ip_address(value))


IpAddress = Annotated[str, AfterValidator(_ip_address)]


class Settings(BaseSettings):
    """What `lipwire serve` can be told.

    Attributes:
        host, port: where HTTP listens.
        gateways: processes that hold the calls, behind one port and over one engine; 0: as many as
            the engine can feed.
        max_sessions: calls at once at most; more are answered 503. None: as many as this machine
            was measured to hold at start.
        calibrate: measure at start how many calls this machine holds; off: `max_sessions` calls
            are taken, whatever it holds.
        client_sessions: calls at once from one address; 0 is no limit.
        client_offers_per_minute: new calls from one address; 0 is no limit. This machine itself
            is never limited.
        trusted_proxies: addresses or networks of reverse proxies that may say in X-Forwarded-For
            for whom they speak.
        auth: "auto": requests need a token unless `host` is this machine's loopback; "on": always,
            for a server behind a proxy.
        token_secret_file: what tokens are signed with; None: `lipwire/token-secret` in the user's
            configuration folder (XDG). LIPWIRE_TOKEN_SECRET, where it is set, is the secret itself.
        allowed_origins: of pages elsewhere that may use this server, "https://example.org".
        tls_cert, tls_key: PEM files, for https; both or none.
        udp_ports: of media, "50000-50100", first and last; None: any that is free.
        media_addresses: of this machine, for media; none: all but loopback.
        public_addresses: under which clients reach this machine's media behind one-to-one NAT.
        stun_urls, turn_urls: that clients are told of, "turn:turn.example.org:3478".
        turn_secret: shared with the TURN servers (coturn: `static-auth-secret`).
        turn_secret_file: where it is read from instead, as containers are given secrets.
        turn_ttl_s: how long a client's TURN credentials last; a call needs them to the end.
        model: a name ("bundled") or the path of a model folder.
        backend: "auto", "openvino", "onnxruntime", "torch", "tensorrt", or
            "passthrough", which shows the source pictures without any model.
        hop_frames: new frames a call of the network; None: as few as the load leaves room for,
            the model's own at most.
        window_mode, steps, start, refresh_hops, reference, guidance_scale, precision: how the
            model is run (`engine.run_options`); None: its own way.
        plan_cache: keep compiled graphs on disk, for a faster start.
        plan_build: where no plan is kept yet: "wait" for it at the start; "background": serve on
            the next best backend while it is built; "auto": wait where that does not take long.
        plan_build_timeout_s: for all plans of a model together; then a start that waits fails, and
            one that did not keeps the backend it serves on.
        plans_dir: where; None: `lipwire/plans` in the user's cache folder (XDG).
        max_plans_mb: of all that is kept; the least recently used goes first.
        avatar_dirs: folders of avatars, searched before the bundled ones.
        uploads_dir: where uploaded avatars are kept; None: `lipwire/avatars` in the user's data
            folder (XDG).
        max_upload_mb: of an uploaded file; 0 takes none.
        max_avatars_mb: of all uploaded avatars; more are refused.
        max_width, max_height: of a camera's picture in live mode; larger ones
            are made smaller.
        playout_delay_ms: delay to begin with; None: from the engine's own figures.
        max_playout_delay_ms: the delay never exceeds this.
        audio_window_ms: speech that a WebSocket client may send ahead.
        offer_timeout_s: for an answer.
        connect_timeout_s: until a peer must be connected after its answer.
        stalled_after_s, idle_timeout_s: without any packet from the peer:
            reported as stalled, closed.
        max_session_s: longest call.
        drain_timeout_s: after SIGTERM calls may go on for this long.
        max_body_bytes: of a request.
        retry_after_s: told to those who are turned away.
        aiortc_overrides: off for comparisons with stock aiortc only.
    """

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    gateways: int = Field(default=1, ge=0, le=64)
    max_sessions: int | None = Field(default=None, ge=1, le=1024)
    calibrate: bool = True
    client_sessions: int = Field(default=8, ge=0)
    client_offers_per_minute: int = Field(default=60, ge=0)
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ("127.0.0.1", "::1")
    auth: Literal["auto", "on"] = "auto"
    token_secret_file: Path | None = None
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None
    udp_ports: Annotated[tuple[int, int] | None, NoDecode] = None
    media_addresses: Annotated[tuple[IpAddress, ...], NoDecode] = ()
    public_addresses: Annotated[tuple[IpAddress, ...], NoDecode] = ()
    stun_urls: Annotated[tuple[str, ...], NoDecode] = ()
    turn_urls: Annotated[tuple[str, ...], NoDecode] = ()
    turn_secret: SecretStr | None = None
    turn_secret_file: Path | None = None
    turn_ttl_s: int = Field(default=7200, ge=60, le=86_400)
    model: str = "bundled"
    backend: str = "auto"
    hop_frames: int | None = Field(default=None, ge=1, le=16)
    window_mode: CarryMode | None = None
    steps: int | None = Field(default=None, ge=1, le=50)
    start: StartMode | None = None
    refresh_hops: int | None = Field(default=None, ge=0)
    reference: ReferenceMode | None = None
    guidance_scale: float | None = Field(default=None, ge=1.0, le=10.0)
    precision: str | None = None
    plan_cache: bool = True
    plan_build: Literal["auto", "wait", "background"] = "auto"
    plan_build_timeout_s: float = Field(default=3600.0, gt=0)
    plans_dir: Path | None = None
    max_plans_mb: int = Field(default=DEFAULT_MAX_BYTES >> 20, ge=0)
    avatar_dirs: Annotated[tuple[Path, ...], NoDecode] = ()
    uploads_dir: Path | None = None
    max_upload_mb: int = Field(default=64, ge=0, le=1024)
    max_avatars_mb: int = Field(default=2048, ge=1)
    max_width: int = Field(default=1280, ge=64, le=1920)
    max_height: int = Field(default=720, ge=64, le=1920)
    playout_delay_ms: int | None = Field(default=None, ge=0, le=2000)
    max_playout_delay_ms: int = Field(default=800, ge=50, le=5000)
    audio_window_ms: int = Field(default=500, ge=100, le=60_000)
    offer_timeout_s: float = Field(default=3.0, gt=0, le=60)
    connect_timeout_s: float = Field(default=10.0, gt=0, le=120)
    stalled_after_s: float = Field(default=3.0, gt=0, le=600)
    idle_timeout_s: float = Field(default=15.0, gt=0, le=600)
    max_session_s: float = Field(default=3600.0, gt=0)
    drain_timeout_s: float = Field(default=30.0, ge=0, le=3600)
    max_body_bytes: int = Field(default=65_536, ge=1024, le=1_048_576)
    retry_after_s: int = Field(default=5, ge=1, le=600)
    log_level: LogLevel = "info"
    log_format: LogFormat = "text"
    aiortc_overrides: bool = True

    @field_validator("udp_ports", mode="before")
    @classmethod
    def _read_ports(cls, value: Any) -> Any:
        """ "FIRST-LAST" as two numbers."""
        if not isinstance(value, str):
            return value
        found = re.fullmatch(r"(\d+)-(\d+)", value)
        first, last = (int(found[1]), int(found[2])) if found else (0, 0)
        if not 1024 <= first <= last <= 65_535:
            raise ValueError(f"expected FIRST-LAST within 1024-65535, got {value!r}")
        return first, last

    @field_validator(
        "trusted_proxies",
        "allowed_origins",
        "media_addresses",
        "public_addresses",
        "stun_urls",
        "turn_urls",
        mode="before",
    )
    @classmethod
    def _split_commas(cls, value: Any) -> Any:
        """Environment variables hold several values with commas between them."""
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        return value

    @field_validator("avatar_dirs", mode="before")
    @classmethod
    def _split_paths(cls, value: Any) -> Any:
        """Environment variables hold several folders as PATH does."""
        return [part for part in value.split(":") if part] if isinstance(value, str) else value

    @property
    def avatar_path(self) -> tuple[Path, ...]:
        """All folders of avatars, in the order of search."""
        return (*self.avatar_dirs, BUNDLED_AVATARS, self.uploads_path)

    @property
    def uploads_path(self) -> Path:
        """The folder of uploaded avatars."""
        if self.uploads_dir is not None:
            return self.uploads_dir.expanduser()
        data = os.environ.get("XDG_DATA_HOME")
        return (Path(data) if data else Path.home() / ".local" / "share") / "lipwire" / "avatars"

    @model_validator(mode="before")
    @classmethod
    def _read_turn_secret(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The secret of `turn_secret_file` as `turn_secret`."""
        given = values.get("turn_secret_file")
        if given is None:
            return values
        if values.get("turn_secret") is not None:
            raise ValueError("expected turn_secret or turn_secret_file, got both")
        path = Path(given).expanduser()
        try:
            secret = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"expected the TURN secret in {path}: {error}") from error
        if not secret:
            raise ValueError(f"expected the TURN secret in {path}, it is empty")
        return values | {"turn_secret": secret}

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("expected tls_cert and tls_key together, got one of them")
        if bool(self.turn_urls) != (self.turn_secret is not None):
            raise ValueError("expected turn_urls and turn_secret together, got one of them")
        for urls, schemes in [(self.stun_urls, "stun"), (self.turn_urls, "turn")]:
            for url in urls:
                if not re.fullmatch(
                    rf"{schemes}s?:[A-Za-z0-9.:\[\]_-]+(\?transport=(udp|tcp))?", url
                ):
                    raise ValueError(f"expected {schemes}:HOST:PORT, got {url!r}")
        return self

    @property
    def needs_tokens(self) -> bool:
        """Whether requests need a token."""
        return self.auth == "on" or not is_loopback(self.host)

    @property
    def secret_path(self) -> Path:
        """The file of the token secret."""
        path = self.token_secret_file
        return path.expanduser() if path is not None else default_secret_path()

    @property
    def plans_path(self) -> Path:
        """The folder of plans."""
        if self.plans_dir is not None:
            return self.plans_dir.expanduser()
        cache = os.environ.get("XDG_CACHE_HOME")
        return (Path(cache) if cache else Path.home() / ".cache") / "lipwire" / "plans"

    @property
    def plans(self) -> PlanCache | None:
        """The plan cache, None where it is off."""
        return PlanCache(self.plans_path, self.max_plans_mb << 20) if self.plan_cache else None

    @property
    def engine_core(self) -> str:
        """Where the engine process finds what it runs."""
        return PASSTHROUGH_CORE if self.backend == "passthrough" else STREAMS_CORE


def load_settings(config: Path | None = None, **overrides: Any) -> Settings:
    """Settings from a TOML file, the environment and the command line.

    Args:
        config: a TOML file, or None.
        overrides: from the command line; None means not given.

    Raises:
        ConfigError: a file that cannot be read, an unknown name or a value out of range.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        from_file = _read_toml(config) if config is not None else {}
        # What the environment sets is taken out of the file's values: it stands above them.
        names = [name.lower() for name in os.environ]
        prefix = ENVIRONMENT_PREFIX.lower()
        environment = {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
        kept = {name: value for name, value in from_file.items() if name not in environment}
        return Settings(**{**kept, **given})
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']) or 'settings'}: {item['msg']}"
            for item in error.errors()
        )
        where = f" ({config} and LIPWIRE_* are read too)" if config else " (LIPWIRE_* is read too)"
        raise ConfigError(f"expected usable settings, got {problems}{where}") from error


def unread_variables(environment: Mapping[str, str]) -> list[str]:
    """A sentence for each `LIPWIRE_*` variable that nothing reads, with the name it is nearest to.

    No error: Kubernetes gives the containers beside a service called lipwire such variables of its
    own.
    """
    known = {ENVIRONMENT_PREFIX + name.upper() for name in Settings.model_fields}
    known.update(OTHER_VARIABLES)
    names = (name for name in environment if name.upper().startswith(ENVIRONMENT_PREFIX))
    sentences = []
    for name in sorted(names):
        if name.upper() in known:
            continue
        near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.8)
        meant = f"; did you mean {near[0]}?" if near else ""
        sentences.append(f"{name} is no setting and is ignored{meant}")
    return sentences


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"expected a TOML file at {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected TOML, {error}") from error
