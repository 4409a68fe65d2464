"""Places that a gateway gets from its supervisor, which counts those of all gateways."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from server.access.client_limits import ClientLimited
from server.capacity.admission import ServerFull
from server.capacity.machine import Capacity
from server.engine_link.messages import EngineReady
from server.gateways.messages import (
    CallCosts,
    EnterPlace,
    GatewayState,
    LateHops,
    LeavePlace,
    PlaceGiven,
    PlaceRefused,
    ServerState,
    ToSupervisor,
)

NOBODY = ServerState((), 0, 0, None, 0)


class RemotePlaces:
    """A gateway's side of admission.

    Args:
        send: takes messages for the supervisor.

    Attributes:
        state: the whole server, as last told.
    """

    def __init__(self, send: Callable[[ToSupervisor], None]) -> None:
        self._send = send
        self._asked: dict[str, asyncio.Future[PlaceGiven | PlaceRefused]] = {}
        self.state = NOBODY

    @property
    def gateways(self) -> Sequence[GatewayState]:
        return self.state.gateways

    @property
    def taken(self) -> int:
        return self.state.taken

    @property
    def limit(self) -> int:
        return self.state.limit

    @property
    def capacity(self) -> Capacity | None:
        return self.state.capacity

    async def enter(self, session: str, client: str | None) -> None:
        answer: asyncio.Future[PlaceGiven | PlaceRefused]
        answer = asyncio.get_running_loop().create_future()
        self._asked[session] = answer
        self._send(EnterPlace(session, client))
        try:
            told = await answer
        except asyncio.CancelledError:
            self._send(LeavePlace(session))
            raise
        finally:
            del self._asked[session]
        match told:
            case PlaceRefused(code=""):
                raise ServerFull(told.limit, told.retry_after_s)
            case PlaceRefused():
                raise ClientLimited(told.code, told.message, told.retry_after_s)

    def leave(self, session: str) -> None:
        self._send(LeavePlace(session))

    def note_late(self, hops: int) -> None:
        if hops > 0:
            self._send(LateHops(hops))

    def set_capacity(self, ready: EngineReady, call_ms: float) -> None:
        self._send(CallCosts(call_ms))

    def take(self, message: PlaceGiven | PlaceRefused | ServerState) -> None:
        """What the supervisor says."""
        if isinstance(message, ServerState):
            self.state = message
            return
        answer = self._asked.get(message.session)
        if answer is not None and not answer.done():
            answer.set_result(message)
