"""Where media meets the network: addresses, UDP ports, what clients are told, and who is heard.

aioice binds a free port of the system's choice on every address but loopback, and tells clients
just those addresses. A firewall wants to know the ports; behind one-to-one NAT (a container, a
cloud machine) clients need an address that no interface here has. What comes to a port passes a
`DatagramGuard` before aioice sees it.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import random
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from aioice.candidate import Candidate, candidate_foundation, candidate_priority
from aioice.ice import Connection, StunProtocol
from aioice.turn import UDP_SOCKET_BUFFER_SIZE
from aiortc import RTCPeerConnection
from aiortc.rtcdtlstransport import RTCDtlsTransport

from server.webrtc.datagram_guard import DatagramGuard
from server.webrtc.signaling import MAX_CANDIDATES, MAX_MEDIA_LINES, OfferRefused

logger = logging.getLogger(__name__)

# Addresses of one peer: those it announced, and some that its checks were seen to come from.
MAX_PEER_ADDRESSES = MAX_CANDIDATES * MAX_MEDIA_LINES + 20
HOST_CANDIDATE = re.compile(r"a=candidate:\S+ (\d+) (?:udp|UDP) \d+ (\S+) (\d+) typ host\b.*")


class MediaNetwork:
    """Binds and announces what connections use for media.

    Args:
        ports: first and last UDP port; None: any that is free.
        local_addresses: to bind; none: all of this machine but loopback.
        public_addresses: under which clients reach the local ones, port for port.
    """

    def __init__(
        self,
        ports: tuple[int, int] | None = None,
        local_addresses: Sequence[str] = (),
        public_addresses: Sequence[str] = (),
    ) -> None:
        self._ports = range(ports[0], ports[1] + 1) if ports is not None else range(1)  # 0: any
        self._local_addresses = tuple(local_addresses)
        self._public_addresses = tuple(public_addresses)
        # Gateways share the range, so each begins elsewhere; a port that was used rests longest.
        self._next = random.randrange(len(self._ports))

    def prepare(
        self, connection: RTCPeerConnection, on_flood: Callable[[], None] = lambda: None
    ) -> DatagramGuard:
        """Sees to it that a connection which knows its remote description binds what it should.

        Args:
            on_flood: called once when its peer sends so much that the call is to end.

        Returns:
            What stands before the connection's ports.
        """
        guard = DatagramGuard()
        for transport in _transports(connection):
            ice = transport.transport.iceGatherer._connection
            port = partial(_Guarded, ice, guard, on_flood)
            gather = partial(self._host_candidates, ice, port)
            ice.get_component_candidates = gather  # type: ignore[method-assign]
        return guard

    def announce(self, sdp: str) -> str:
        """The answer with each public address beside the local ones of its family."""
        lines = []
        for line in sdp.split("\r\n"):
            lines.append(line)
            found = HOST_CANDIDATE.fullmatch(line)
            if found is not None:
                component, host, port = int(found[1]), found[2], int(found[3])
                lines.extend(self._public_candidates(component, host, port))
        return "\r\n".join(lines)

    def _public_candidates(self, component: int, host: str, port: int) -> Iterator[str]:
        """Server reflexive candidates (RFC 8445, 5.1.1.2), as if a STUN server had been asked."""
        for public in self._public_addresses:
            if _family(public) == _family(host):
                candidate = Candidate(
                    foundation=candidate_foundation("srflx", "udp", public + host),
                    component=component,
                    transport="udp",
                    priority=candidate_priority(component, "srflx"),
                    host=public,
                    port=port,
                    type="srflx",
                    related_address=host,
                    related_port=port,
                )
                yield f"a=candidate:{candidate.to_sdp()}"

    async def _host_candidates(
        self,
        ice: Connection,
        protocol_factory: Callable[[], StunProtocol],
        component: int,
        addresses: list[str],
        timeout: int = 5,
    ) -> list[Candidate]:
        """Stands in for aioice's method of a connection without STUN and TURN servers."""
        loop = asyncio.get_running_loop()
        candidates = []
        for address in self._local_addresses or addresses:
            try:
                sock = self._bind(address)
            except OSError as error:
                if self._local_addresses:
                    raise
                logger.info("media: cannot bind %s: %s", address, error.strerror)
                continue
            _, protocol = await loop.create_datagram_endpoint(protocol_factory, sock=sock)
            protocol.local_candidate = Candidate(
                foundation=candidate_foundation("host", "udp", address),
                component=component,
                transport="udp",
                priority=candidate_priority(component, "host"),
                host=address,
                port=sock.getsockname()[1],
                type="host",
            )
            ice._protocols.append(protocol)
            candidates.append(protocol.local_candidate)
        return candidates

    def _bind(self, address: str) -> socket.socket:
        """A UDP socket on a port of the range.

        Raises:
            OfferRefused: all are taken.
            OSError: the address is none of this machine's.
        """
        for step in range(len(self._ports)):
            at = (self._next + step) % len(self._ports)
            sock = socket.socket(_family(address), socket.SOCK_DGRAM)
            try:
                sock.bind((address, self._ports[at]))
            except OSError as error:
                sock.close()
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                self._next = (at + 1) % len(self._ports)
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UDP_SOCKET_BUFFER_SIZE)
                return sock
        raise OfferRefused("no_media_port", "all UDP ports for media are taken, try later", 503)


class _Guarded(StunProtocol):
    """One port of a connection."""

    def __init__(self, ice: Connection, guard: DatagramGuard, on_flood: Callable[[], None]) -> None:
        super().__init__(ice)
        self._guard = guard
        self._on_flood = on_flood
        self._addresses: set[tuple[str, int]] = set()
        self._candidates = 0
        self._told = False

    def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
        assert isinstance(data, bytes)
        of_peer = self._is_of_peer((addr[0], addr[1]))
        if not of_peer and self._candidates >= MAX_PEER_ADDRESSES:
            self._guard.strange += 1  # its check would become one more address
        elif self._guard.admits(data, of_peer=of_peer, waiting=self.receiver._queue.qsize()):
            super().datagram_received(data, addr)
        elif self._guard.flooded and not self._told:
            self._told = True
            self._on_flood()

    def _is_of_peer(self, address: tuple[str, int]) -> bool:
        candidates = self.receiver._remote_candidates
        if len(candidates) != self._candidates:
            self._candidates = len(candidates)
            self._addresses = {(known._network_host, known.port) for known in candidates}
        return address in self._addresses


def _family(address: str) -> socket.AddressFamily:
    version = ipaddress.ip_address(address).version
    return socket.AF_INET if version == 4 else socket.AF_INET6


def _transports(connection: RTCPeerConnection) -> set[RTCDtlsTransport]:
    found = {transceiver.receiver.transport for transceiver in connection.getTransceivers()}
    return found if connection.sctp is None else found | {connection.sctp.transport}
