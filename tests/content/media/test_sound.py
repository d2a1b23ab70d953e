"""Sound of any kind as 16 kHz windows that neither memory nor silence can break."""

import struct
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av", reason="needs the media extra")

import av
from made_media import shade, sound, tone, video
from peak_memory import peak_growth_mib

from llmrec.content.media.audio import RATE, windows
from llmrec.content.media.errors import EmptyMediaError, MediaError, UndecodableError


def whole(source: Path | bytes) -> np.ndarray:
    return np.concatenate([window.samples for window in windows(source)])


def test_any_rate_and_channels_become_16_khz_mono(tmp_path: Path) -> None:
    stereo = np.stack([tone(1, rate=44_100), -0.5 * tone(1, rate=44_100)], axis=1)
    samples = whole(sound(tmp_path / "a.wav", stereo, 44_100))
    assert samples.dtype == np.float32 and abs(len(samples) - RATE) < 20
    # left and right are averaged: 0.3 (1 - 0.5) / 2
    np.testing.assert_allclose(np.abs(samples[2000:-2000]).max(), 0.075, rtol=0.01)
    spectrum = np.abs(np.fft.rfft(samples[:RATE]))
    assert abs(spectrum.argmax() * RATE / len(samples[:RATE]) - 440) < 3


def test_loud_stereo_is_not_clipped(tmp_path: Path) -> None:
    loud = 3 * tone(1.0)
    np.testing.assert_allclose(
        whole(sound(tmp_path / "a.wav", np.stack([loud, loud], axis=1))), loud, atol=1e-3
    )


def test_windows_put_together_are_the_recording(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    samples = rng.uniform(-0.5, 0.5, RATE * 7)
    path = sound(tmp_path / "a.wav", samples)
    parts = list(windows(path, seconds=2.0, search_seconds=0.5))
    np.testing.assert_allclose(np.concatenate([p.samples for p in parts]), samples, atol=1e-4)
    ends = np.cumsum([part.seconds for part in parts])
    np.testing.assert_allclose([part.start for part in parts[1:]], ends[:-1])
    assert all(1.5 <= part.seconds <= 2 for part in parts[:-1])


def test_a_window_ends_in_a_pause(tmp_path: Path) -> None:
    samples = tone(4.0)
    samples[int(1.7 * RATE) : int(1.8 * RATE)] = 0
    first = next(windows(sound(tmp_path / "a.wav", samples), seconds=2.0, search_seconds=1.0))
    assert 1.7 <= first.seconds <= 1.8


def test_only_so_much_is_heard_as_is_asked_for(tmp_path: Path) -> None:
    path = sound(tmp_path / "a.wav", tone(5.0))
    heard = list(windows(path, seconds=2.0, max_seconds=3.0))
    np.testing.assert_allclose(sum(window.seconds for window in heard), 3.0)


def test_silence_is_noticed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    quiet = sound(tmp_path / "quiet.wav", rng.normal(0, 1e-4, RATE))
    assert all(window.silent for window in windows(quiet))
    click = np.zeros(RATE)
    click[5000:5400] = tone(400 / RATE)
    assert not next(windows(sound(tmp_path / "click.wav", click))).silent


def test_an_hour_takes_no_more_memory_than_a_minute(tmp_path: Path) -> None:
    path, rate, seconds = tmp_path / "hour.wav", 8000, 3600
    size = rate * seconds  # one byte a sample; the file is sparse
    header = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", size + 36, b"WAVE", b"fmt ", 16, 1, 1, rate,
                         rate, 1, 8) + struct.pack("<4sI", b"data", size)  # fmt: skip
    path.write_bytes(header)
    with open(path, "r+b") as file:
        file.truncate(len(header) + size)
    minute = sound(tmp_path / "minute.wav", tone(60.0))
    ready = (
        "from llmrec.content.media.audio import windows\n"
        f"assert abs(sum(w.seconds for w in windows(Path({str(minute)!r}))) - 60) < 1"
    )
    work = f"assert abs(sum(w.seconds for w in windows(Path({str(path)!r}))) - {seconds}) < 1"
    assert peak_growth_mib(ready, work) < 10  # 220 MiB as one array


def test_the_sound_of_a_video_is_heard(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as out:
        pictures, heard = out.add_stream("mpeg4", rate=8), out.add_stream("pcm_s16le", rate=16_000)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        heard.layout = "mono"
        for _ in range(8):
            out.mux(pictures.encode(av.VideoFrame.from_ndarray(shade(80), format="rgb24")))
        values = (tone(1.0) * 32767).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(values, format="s16", layout="mono")
        frame.sample_rate = 16_000
        out.mux(heard.encode(frame))
        out.mux(pictures.encode(None))
        out.mux(heard.encode(None))
    np.testing.assert_allclose(whole(tmp_path / "a.mkv"), tone(1.0), atol=1e-3)


def test_what_has_no_sound_says_so(tmp_path: Path) -> None:
    with pytest.raises(EmptyMediaError, match="no sound track"):
        list(windows(video(tmp_path / "a.mp4", lambda n: shade(9), 4)))
    with pytest.raises(UndecodableError, match="not a media file"):
        list(windows(b"<html>not found</html>"))
    with pytest.raises(MediaError):
        list(windows(sound(tmp_path / "empty.wav", np.zeros(0))))


def test_a_broken_recording_gives_what_is_whole(tmp_path: Path) -> None:
    content = sound(tmp_path / "a.wav", tone(4.0)).read_bytes()
    heard = whole(content[: len(content) // 2])
    assert 1.9 < len(heard) / RATE <= 2.0


def test_real_recordings_are_as_long_as_they_are(shared_data: Path) -> None:
    path = shared_data / "speech" / "jfk.flac"
    if not path.is_file():
        pytest.skip(f"no {path}")
    samples = whole(path)
    assert abs(len(samples) / RATE - 11.0) < 0.01 and np.abs(samples).max() > 0.1
