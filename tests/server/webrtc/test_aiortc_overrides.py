"""The overrides do what they promise, and what they replace is still what it was."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import queue
import threading
from typing import Any

import aiortc
import numpy as np
import pytest
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtp import RtcpSenderInfo, RtcpSrPacket, RtpPacket
from av import AudioFrame

from server.media.tracks import VideoOut
from server.webrtc import aiortc_overrides as overrides
from server.webrtc.aiortc_jitter import VideoJitterBuffer
from tests.encoded_pictures import H264, VP8, encoded

STOCK = {(getattr(owner, "__name__", ""), name): value for owner, name, value in overrides.STOCK}

# SHA-256, first 16 digits, of the source that each override replaces or leans on. A change
# means: read what is new upstream, repair or remove the override, then renew the digest.
DIGESTS = {
    "aiortc.rtp.compute_audio_level_dbov": "d65138ae99e84548",
    "aiortc.jitterbuffer.JitterBuffer": "17030fbb0982258d",
    "aiortc.rtcrtpreceiver.NackGenerator": "4e89418b046d6ffc",
    "aiortc.rtcrtpreceiver.decoder_worker": "d500d4e567d6846c",
    "aiortc.rtcrtpreceiver.RemoteStreamTrack": "a69be688b066c569",
    "aiortc.rtcrtpreceiver.RTCRtpReceiver": "9a485e6f515fc0cd",
    "aiortc.codecs.get_encoder": "adcbc1a6dc73e3bf",
    "aiortc.codecs.vpx.Vp8Encoder": "6cf4262a7b1d212a",
    "aiortc.codecs.h264.H264Encoder": "bfff7b511a13ec84",
    "aiortc.rtcrtpsender.RTCRtpSender": "57274ec81025a272",
    "aiortc.rtcsctptransport.InboundStream": "b63993b481ece97b",
    "aiortc.rtcsctptransport.RTCSctpTransport": "ed2025a7383094d6",
}


def _stock(path: str) -> Any:
    module, _, name = path.rpartition(".")
    stock = STOCK.get((module, name))
    return stock if stock is not None else getattr(__import__(module, fromlist=[name]), name)


@pytest.mark.parametrize("path", DIGESTS)
def test_upstream_is_what_the_override_was_made_for(path: str) -> None:
    source = inspect.getsource(_stock(path))
    assert hashlib.sha256(source.encode()).hexdigest()[:16] == DIGESTS[path]


def test_the_overrides_are_made_for_the_installed_version() -> None:
    assert aiortc.__version__ == overrides.AIORTC_VERSION


def test_apply_and_restore_put_every_attribute_in_place() -> None:
    try:
        assert overrides.apply()
        for owner, name, replacement in overrides.REPLACEMENTS:
            assert getattr(owner, name) is replacement
    finally:
        overrides.restore()
    for owner, name, stock in overrides.STOCK:
        assert getattr(owner, name) is stock


def test_another_version_of_aiortc_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiortc, "__version__", "99.0")
    assert not overrides.apply()
    assert aiortc.rtp.compute_audio_level_dbov is not overrides.audio_level_dbov


# --- audio level -----------------------------------------------------------------


@pytest.mark.parametrize("amplitude", [0, 1, 30, 1000, 20_000, 32_767])
@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_the_audio_level_is_upstreams(amplitude: int, layout: str) -> None:
    channels = 1 if layout == "mono" else 2
    noise = np.random.default_rng(1).uniform(-amplitude, amplitude, 960).astype(np.int16)
    samples = np.repeat(noise, channels).reshape(1, -1)
    frame = AudioFrame.from_ndarray(samples, format="s16", layout=layout)
    stock = _stock("aiortc.rtp.compute_audio_level_dbov")(frame)
    ours = overrides.audio_level_dbov(frame)
    # Upstream divides the sum over all channels by the samples of one.
    assert abs(ours - stock) <= (1 if channels == 1 else 4)


# --- receiving -----------------------------------------------------------------------


def _packet(sequence: int, timestamp: int = 0, marker: int = 0) -> RtpPacket:
    packet = RtpPacket(sequence_number=sequence & 0xFFFF, timestamp=timestamp, marker=marker)
    packet._data = bytes([sequence & 0xFF])  # type: ignore[attr-defined]
    return packet


def test_what_waited_behind_a_hole_is_decoded_with_the_packet_that_fills_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Receiver:
        """What the override touches of upstream's receiver."""

        def __init__(self) -> None:
            self._RTCRtpReceiver__codecs = {97: VP8}
            self._RTCRtpReceiver__jitter_buffer = VideoJitterBuffer()
            self._RTCRtpReceiver__nack_generator = None
            self._RTCRtpReceiver__decoder_thread = True
            self._RTCRtpReceiver__decoder_queue: queue.Queue[Any] = queue.Queue()
            self._RTCRtpReceiver__timestamp_mapper = self

        def map(self, timestamp: int) -> int:
            return timestamp + 1

    async def upstream(receiver: Any, packet: RtpPacket, arrival_time_ms: int) -> None:
        _, frame = receiver._RTCRtpReceiver__jitter_buffer.add(packet)
        if frame is not None:
            receiver._RTCRtpReceiver__decoder_queue.put((VP8, frame))

    monkeypatch.setattr(overrides, "_handle_rtp_packet", upstream)
    receiver: Any = Receiver()

    async def scenario() -> list[int]:
        for sequence in (1, 3, 4, 5, 2):
            packet = _packet(sequence, sequence * 3600, marker=1)
            packet.payload_type = 97
            await overrides.handle_rtp_packet(receiver, packet, 0)
        waiting = receiver._RTCRtpReceiver__decoder_queue
        return [waiting.get_nowait()[1].timestamp for _ in range(waiting.qsize())]

    first, second, *drained = asyncio.run(scenario())
    assert (first, second) == (3600, 2 * 3600)
    assert drained == [3 * 3600 + 1, 4 * 3600 + 1, 5 * 3600 + 1]


# --- queues ------------------------------------------------------------------------


def test_a_track_that_nobody_reads_keeps_only_the_newest_frames() -> None:
    async def scenario() -> list[Any]:
        track = overrides.BoundedRemoteTrack("video")
        for number in range(100):
            track._queue.put_nowait(number)
        return [await track.recv() for _ in range(track._queue.qsize())]

    assert asyncio.run(scenario()) == [98, 99]


def test_the_end_of_a_track_is_never_dropped() -> None:
    async def scenario() -> None:
        track = overrides.BoundedRemoteTrack("audio")
        for number in range(100):
            track._queue.put_nowait(number)
        track._queue.put_nowait(None)
        with pytest.raises(aiortc.mediastreams.MediaStreamError):
            while True:
                await track.recv()

    asyncio.run(scenario())


@pytest.mark.parametrize("codec", [VP8, H264], ids=["vp8", "h264"])
def test_a_backlog_of_pictures_is_skipped_up_to_a_key_frame(codec: RTCRtpCodecParameters) -> None:
    async def scenario() -> tuple[list[int], bool]:
        inputs: queue.Queue[Any] = queue.Queue()
        for frame in encoded(codec, 20):
            inputs.put((codec, frame))
        inputs.put(None)
        output: asyncio.Queue[Any] = asyncio.Queue()
        failed = threading.Event()
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(overrides.decoder_worker, loop, inputs, output, failed)
        decoded = []
        while (frame := await output.get()) is not None:
            decoded.append(frame.pts // 3600)
        return decoded, failed.is_set()

    decoded, asked = asyncio.run(scenario())
    assert asked and decoded[-1] == 19
    assert set(range(15, 20)) <= set(decoded) and len(decoded) < 20


# --- sender reports ------------------------------------------------------------------


class _Sender:
    """What the two sender overrides touch."""

    def __init__(self, track: VideoOut) -> None:
        self.track = track
        self.sent: list[Any] = []


def test_sender_reports_carry_media_time(monkeypatch: pytest.MonkeyPatch) -> None:
    class Encoded:
        timestamp = 90_000

    async def encoded(sender: Any, codec: Any) -> Encoded:
        return Encoded()

    async def send(sender: Any, packets: list[Any]) -> None:
        sender.sent.extend(packets)

    monkeypatch.setattr(overrides, "_next_encoded_frame", encoded)
    monkeypatch.setattr(overrides, "_send_rtcp", send)

    async def scenario() -> RtcpSrPacket:
        sender = _Sender(VideoOut(epoch_ntp=7 << 32))
        await overrides.remember_media_time(sender, VP8)  # type: ignore[arg-type]
        info = RtcpSenderInfo(ntp_timestamp=1, rtp_timestamp=2, packet_count=3, octet_count=4)
        report = RtcpSrPacket(ssrc=1, sender_info=info)
        await overrides.report_media_time(sender, [report])  # type: ignore[arg-type]
        assert sender.sent == [report]
        return report

    assert asyncio.run(scenario()).sender_info.ntp_timestamp == 8 << 32
