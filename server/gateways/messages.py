"""What a gateway and its supervisor say to each other, pickled over an inherited pipe."""

from __future__ import annotations

from dataclasses import dataclass

from server.capacity.machine import Capacity

# --- gateway to supervisor -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GatewayReady:
    """Calls can be taken."""


@dataclass(frozen=True, slots=True)
class GatewayFailed:
    """The gateway cannot start."""

    message: str


@dataclass(frozen=True, slots=True)
class Alive:
    """A sign of life, once a second."""


@dataclass(frozen=True, slots=True)
class EnterPlace:
    """Asks for a place; the answer carries the session too."""

    session: str
    client: str | None


@dataclass(frozen=True, slots=True)
class LeavePlace:
    session: str


@dataclass(frozen=True, slots=True)
class LateHops:
    hops: int


@dataclass(frozen=True, slots=True)
class CallCosts:
    """Processor time in ms that one call costs this gateway in a second."""

    call_ms: float


@dataclass(frozen=True, slots=True)
class TakeTicket:
    """Asks whether a ticket may be used: it may once, at whichever gateway.

    Attributes:
        number: the answer carries it too.
        name: of the ticket.
        issued, until: Unix times of its making and its expiry.
    """

    number: int
    name: str
    issued: float
    until: float


# --- supervisor to gateway -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PlaceGiven:
    session: str


@dataclass(frozen=True, slots=True)
class PlaceRefused:
    """No place: of the whole server, or of this client's where there is a code.

    Attributes:
        limit: calls that the server takes now.
    """

    session: str
    retry_after_s: int
    limit: int = 0
    code: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class TicketAnswer:
    """Whether nobody has used the ticket before."""

    number: int
    fresh: bool


@dataclass(frozen=True, slots=True)
class GatewayState:
    """One gateway as its supervisor sees it.

    Attributes:
        up: it takes requests.
        sessions: calls that it holds.
        restarts: how often it was replaced.
    """

    index: int
    up: bool
    sessions: int
    restarts: int


@dataclass(frozen=True, slots=True)
class ServerState:
    """The whole server, told whenever it changes.

    Attributes:
        taken, limit: calls now, and calls that are let in at present.
        capacity: as measured; None where nothing was.
        engine_restarts: how often the engine was replaced.
    """

    gateways: tuple[GatewayState, ...]
    taken: int
    limit: int
    capacity: Capacity | None
    engine_restarts: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Takes no new calls, lets the others end, then ends the process.

    Attributes:
        timeout_s: for the calls; 0 ends them at once.
    """

    timeout_s: float


ToSupervisor = (
    GatewayReady
    | GatewayFailed
    | Alive
    | EnterPlace
    | LeavePlace
    | LateHops
    | CallCosts
    | TakeTicket
)
ToGateway = PlaceGiven | PlaceRefused | TicketAnswer | ServerState | Drain
