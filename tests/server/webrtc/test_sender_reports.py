"""What sender reports tell a receiver when one track is late: media time, over real UDP."""

from __future__ import annotations

import asyncio
import time
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection
from aiortc.clock import current_ntp_time
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import AudioFrame, VideoFrame

from server.media.tracks import SoundOut, VideoOut
from server.webrtc import aiortc_overrides

LATE_S = 0.25  # by how much the picture is held back
BLOCKS_A_PICTURE = 2


def _sound(block: int) -> AudioFrame:
    frame = AudioFrame.from_ndarray(np.zeros((1, 960), np.int16), format="s16", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = 48_000, block * 960, Fraction(1, 48_000)
    return frame


def _picture(number: int) -> VideoFrame:
    frame = VideoFrame.from_ndarray(np.full((72, 64), 90, np.uint8), format="yuv420p")
    frame.pts, frame.time_base = number * 3600, Fraction(1, 90_000)
    return frame


class Receiver:
    """Notes when the frames of a track come, and the newest sender report."""

    def __init__(self, receiver: Any) -> None:
        self.arrived: dict[float, float] = {}  # media second since the track's first packet
        self.report: tuple[int, int] | None = None
        self._receiver = receiver
        handle = receiver._handle_rtcp_packet

        async def keep_report(packet: Any) -> None:
            info = getattr(packet, "sender_info", None)
            if info is not None and info.rtp_timestamp:
                self.report = (info.ntp_timestamp, info.rtp_timestamp)
            await handle(packet)

        receiver._handle_rtcp_packet = keep_report

    async def read(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                frame: Any = await track.recv()
            except MediaStreamError:
                return
            self.arrived[float(frame.pts * frame.time_base)] = time.monotonic()

    def date_of_zero(self, clock_hz: int) -> float:
        """NTP seconds at which the sender says that its first packet's media belongs."""
        assert self.report is not None
        ntp, rtp = self.report
        origin: int = self._receiver._RTCRtpReceiver__timestamp_mapper._origin
        ahead = (origin - rtp + 2**31) % 2**32 - 2**31
        return ntp / 2**32 + ahead / clock_hz


@pytest.mark.parametrize("patched", [True, False], ids=["media time", "stock"])
def test_a_receiver_can_put_a_late_picture_back_to_its_sound(patched: bool) -> None:
    async def main() -> tuple[float, float]:
        ours, theirs = (RTCPeerConnection(RTCConfiguration(iceServers=[])) for _ in range(2))
        epoch = current_ntp_time()
        sound_out, video_out = SoundOut(epoch), VideoOut(epoch)
        receivers: dict[str, Receiver] = {}
        tasks = []

        def on_track(track: MediaStreamTrack) -> None:
            transceivers = theirs.getTransceivers()
            receiver = next(t.receiver for t in transceivers if t.receiver.track is track)
            receivers[track.kind] = Receiver(receiver)
            tasks.append(asyncio.create_task(receivers[track.kind].read(track)))

        theirs.on("track", on_track)
        ours.addTrack(sound_out)
        ours.addTrack(video_out)
        await ours.setLocalDescription(await ours.createOffer())
        await theirs.setRemoteDescription(ours.localDescription)
        await theirs.setLocalDescription(await theirs.createAnswer())
        await ours.setRemoteDescription(theirs.localDescription)
        async with asyncio.timeout(30):
            while ours.connectionState != "connected":
                await asyncio.sleep(0.01)
            loop, block = asyncio.get_running_loop(), 0
            began = time.monotonic()
            while not all(r.report and len(r.arrived) > 20 for r in receivers.values()):
                await asyncio.sleep(max(began + block * 0.02 - time.monotonic(), 0))
                sound_out.release(_sound(block))
                if block % BLOCKS_A_PICTURE == 0:
                    picture = _picture(block // BLOCKS_A_PICTURE)
                    loop.call_later(LATE_S, video_out.release, picture)
                block += 1
        both = receivers["audio"].arrived.keys() & receivers["video"].arrived.keys()
        late = [receivers["video"].arrived[at] - receivers["audio"].arrived[at] for at in both]
        apart = receivers["video"].date_of_zero(90_000) - receivers["audio"].date_of_zero(48_000)
        await ours.close()
        await theirs.close()
        await asyncio.gather(*tasks)
        return float(np.median(late)), apart

    if patched:
        aiortc_overrides.apply()
    try:
        late, apart = asyncio.run(main())
    finally:
        aiortc_overrides.restore()
    assert late > LATE_S - 0.05, "the picture does arrive late"
    if patched:
        assert abs(apart) < 0.005, "and its report says that it belongs to the sound before it"
    else:
        assert apart > LATE_S - 0.1, "stock reports take the delay for a part of the media"
