"""A bad network between two namespaces of this machine: loss, jitter and outages.

Linux' own `netem` is not in every kernel, so the link is ours: a TUN device in each namespace, and
this process carries packets between them, or does not. Needs root.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import random
import struct
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
DEVICE = "lipwire0"
LARGEST_PACKET = 2048


@dataclass(frozen=True, slots=True)
class LinkFaults:
    """What befalls every packet, either way.

    Attributes:
        loss: share that never arrives.
        delay_ms, jitter_ms: fixed, and the most of a uniform one above it; packets may overtake.
        outage_s, outage_every_s: nothing arrives for so long, once in that time.
    """

    loss: float = 0.0
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    outage_s: float = 0.0
    outage_every_s: float = 10.0


class Link:
    """Carries packets between two TUN devices.

    Attributes:
        faults: what befalls packets from now on.
        carried, lost: packets so far.
    """

    def __init__(self, first: int, second: int, faults: LinkFaults, seed: int = 0) -> None:
        self.carried = 0
        self.lost = 0
        self._ends = (first, second)
        self.faults = faults
        self._dice = random.Random(seed)
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        for source, target in ((first, second), (second, first)):
            self._loop.add_reader(source, self._carry, source, target)

    def close(self) -> None:
        for end in self._ends:
            self._loop.remove_reader(end)

    def _carry(self, source: int, target: int) -> None:
        packet, faults = os.read(source, LARGEST_PACKET), self.faults
        since = (self._loop.time() - self._began) % faults.outage_every_s
        outage = since > faults.outage_every_s - faults.outage_s
        if outage or self._dice.random() < faults.loss:
            self.lost += 1
            return
        self.carried += 1
        delay_ms = faults.delay_ms + self._dice.random() * faults.jitter_ms
        if delay_ms:
            self._loop.call_later(delay_ms / 1000, _deliver, target, packet)
        else:
            _deliver(target, packet)


def _deliver(target: int, packet: bytes) -> None:
    with contextlib.suppress(OSError):  # the device's queue is full, or it is gone
        os.write(target, packet)


@asynccontextmanager
async def linked_namespaces(names: tuple[str, str], faults: LinkFaults) -> AsyncIterator[Link]:
    """Two namespaces that see each other, and nothing else, over a bad link."""
    ends: list[int] = []
    try:
        for number, name in enumerate(names, 1):
            _ip("netns", "add", name)
            ends.append(_tun_in(name))
            _ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", DEVICE)
            _ip("-n", name, "link", "set", DEVICE, "up")
            _ip("-n", name, "link", "set", "lo", "up")
        link = Link(ends[0], ends[1], faults)
        try:
            yield link
        finally:
            link.close()
    finally:
        for end in ends:
            os.close(end)
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, stderr=subprocess.DEVNULL)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _tun_in(namespace: str) -> int:
    """Descriptor of a new TUN device that lives in a namespace; we stay where we are."""
    with inside(namespace):
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        request = struct.pack("16sH", DEVICE.encode(), IFF_TUN | IFF_NO_PI)
        fcntl.ioctl(device, TUNSETIFF, request)
    return device


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Sockets and devices that this thread makes meanwhile live in a namespace, for good."""
    libc = ctypes.CDLL(None, use_errno=True)
    with (
        Path("/proc/self/ns/net").open() as here,
        Path(f"/run/netns/{namespace}").open() as there,
    ):
        _enter(libc, there.fileno())
        try:
            yield
        finally:
            _enter(libc, here.fileno())


def _enter(libc: ctypes.CDLL, namespace: int) -> None:
    if libc.setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "cannot enter the network namespace; are you root?")
