"""Sound lies where its time stamps put it, whatever its rate, layout and container."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.prepared_videos import brightness, flash_video, murmur
from training.prepare.check import check_source
from training.prepare.pictures import grid_frames
from training.prepare.sound import load_sound, speaking_share
from training.toy_videos import Track, steady


def click_of(path: Path) -> float:
    """Seconds of the click after the first picture."""
    sound = load_sound(path, check_source(path, 0.4).origin)
    loud = np.flatnonzero(np.abs(sound) > 0.5 * np.abs(sound).max())
    return float(loud.mean()) / 16_000


@pytest.mark.parametrize(
    ("suffix", "track"),
    [
        (".mp4", Track()),
        (".mp4", Track(rate_hz=48_000, channels=2)),
        (".mkv", Track(rate_hz=44_100)),
        (".mkv", Track(rate_hz=48_000, channels=2, codec="pcm_s16le")),
        (".webm", Track(rate_hz=48_000, codec="libopus")),
    ],
)
@pytest.mark.parametrize("rate", [25, 30])
def test_an_offset_between_sound_and_picture_is_kept(
    tmp_path: Path, suffix: str, track: Track, rate: int
) -> None:
    # H.264 is at home in Matroska, whose stricter subset WebM it is not.
    path = tmp_path / f"v{suffix}" if suffix != ".webm" else tmp_path / "v.mkv"
    flash_video(path, steady(2 * rate, rate), Fraction(1), 1.2, track)
    info = check_source(path, 0.4)
    frames = grid_frames(path, info.origin, info.frames)
    flash = next(frame.index for frame in frames if brightness(frame) > 128) / 25
    assert flash == pytest.approx(1.0, abs=0.02)
    assert click_of(path) == pytest.approx(1.2, abs=0.005)


@pytest.mark.parametrize("start_s", [0.24, -0.24])
def test_sound_that_begins_later_or_earlier_than_the_pictures_stays_there(
    tmp_path: Path, start_s: float
) -> None:
    track = Track(rate_hz=48_000, codec="pcm_s16le", start_s=max(start_s, 0.0))
    times = [time + Fraction(max(round(-start_s * 25), 0), 25) for time in steady(50)]
    path = flash_video(tmp_path / "v.mkv", times, Fraction(1), 1.0, track)
    assert click_of(path) == pytest.approx(1.0 + start_s, abs=0.002)


def test_a_gap_in_the_sound_is_silence(tmp_path: Path) -> None:
    path = tmp_path / "v.mkv"
    flash_video(path, steady(50), Fraction(1), 0.2, Track(codec="pcm_s16le"))
    gapped = with_gap(path, tmp_path / "gap.mkv", Fraction(1, 10), Fraction(1, 2))
    assert click_of(gapped) == pytest.approx(0.7, abs=0.002)


def with_gap(source: Path, target: Path, after: Fraction, gap: Fraction) -> Path:
    """A copy whose sound's stamps jump by `gap`."""
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        streams = {}
        for stream in reader.streams:
            streams[stream.index] = writer.add_stream_from_template(stream)
        for packet in reader.demux():
            if packet.pts is None or packet.time_base is None:
                continue
            late = packet.stream.type == "audio" and packet.pts * packet.time_base >= after
            if late:
                packet.pts += round(gap / packet.time_base)
                packet.dts = packet.pts
            packet.stream = streams[packet.stream.index]
            writer.mux(packet)
    return target


def test_silence_is_not_speech() -> None:
    assert speaking_share(np.zeros(16_000, np.float32)) == 0.0
    assert speaking_share(murmur(25)) == 1.0
