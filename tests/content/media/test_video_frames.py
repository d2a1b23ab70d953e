"""Frames with the right times from clips of every length, whole or broken."""

import struct
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av", reason="needs the media extra")

import av
from made_media import picture, shade, sound, tone, video
from peak_memory import peak_growth_mib
from PIL import Image

from llmrec.content.media.errors import EmptyMediaError, MediaError, UndecodableError
from llmrec.content.media.video import sample_frames

REAL = ("archery.mp4", "flipping_a_pancake.mkv", "mmaction2_demo.mp4", "nasa_13013.mp4")


def brightness(frames: np.ndarray) -> np.ndarray:
    return frames.mean(axis=(1, 2, 3))


def test_even_frames_stand_where_their_times_say(tmp_path: Path) -> None:
    # frame number n is as bright as 4 n, so its brightness tells which frame it is
    path = video(tmp_path / "ramp.mp4", lambda n: shade(4 * n), 48)
    clip = sample_frames(path, 6)
    assert clip.frames.shape == (6, 48, 64, 3) and clip.frames.dtype == np.uint8
    np.testing.assert_allclose(clip.times, (np.arange(6) + 0.5) * 6 / 6, atol=0.3)
    np.testing.assert_allclose(brightness(clip.frames), clip.times * 8 * 4, atol=4)


def test_bytes_are_read_like_a_file(tmp_path: Path) -> None:
    path = video(tmp_path / "ramp.mp4", lambda n: shade(4 * n), 16)
    np.testing.assert_array_equal(
        sample_frames(path, 4).frames, sample_frames(path.read_bytes(), 4).frames
    )


def test_a_long_clip_is_read_by_seeking(tmp_path: Path) -> None:
    path = video(tmp_path / "long.mp4", lambda n: shade(n // 3), 720, rate=8)  # 90 s
    clip = sample_frames(path, 5)
    np.testing.assert_allclose(clip.times, [9, 27, 45, 63, 81], atol=0.2)
    np.testing.assert_allclose(brightness(clip.frames), clip.times * 8 / 3, atol=3)


def test_scenes_are_found_where_the_picture_changes(tmp_path: Path) -> None:
    def cuts(n: int) -> np.ndarray:
        return shade([20, 200, 90][(n >= 10) + (n >= 25)])

    clip = sample_frames(video(tmp_path / "cuts.mp4", cuts, 40), 3, choice="scenes")
    np.testing.assert_allclose(clip.times, [0, 10 / 8, 25 / 8], atol=0.01)
    np.testing.assert_allclose(brightness(clip.frames), [20, 200, 90], atol=6)


def test_scenes_without_a_cut_are_filled_with_even_frames(tmp_path: Path) -> None:
    clip = sample_frames(video(tmp_path / "one.mp4", lambda n: shade(90), 40), 4, choice="scenes")
    assert len(clip.times) == 4 and (np.diff(clip.times) > 0).all()


def test_a_clip_with_fewer_frames_gives_them_all(tmp_path: Path) -> None:
    clip = sample_frames(video(tmp_path / "short.mp4", lambda n: shade(80 * n), 2), 8)
    np.testing.assert_allclose(clip.times, [0, 1 / 8], atol=0.01)


def test_frames_are_scaled_down_by_their_shorter_side(tmp_path: Path) -> None:
    path = video(tmp_path / "wide.mp4", lambda n: shade(50, (96, 192)), 4)
    assert sample_frames(path, 2, side=32).frames.shape == (2, 32, 64, 3)
    assert sample_frames(path, 2, side=500).frames.shape == (2, 96, 192, 3)


def test_large_frames_are_refused(tmp_path: Path) -> None:
    path = video(tmp_path / "wide.mp4", lambda n: shade(50, (96, 192)), 4)
    with pytest.raises(UndecodableError, match="more pixels than are read"):
        sample_frames(path, 2, max_pixels=1000)


def test_large_frames_are_not_even_looked_at(tmp_path: Path) -> None:
    wide = Image.new("RGB", (8000, 8000), "blue")
    path = tmp_path / "wide.webm"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libvpx-vp9", rate=1, options={"cpu-used": "8"})
        stream.width, stream.height, stream.pix_fmt = *wide.size, "yuv420p"
        out.mux(stream.encode(av.VideoFrame.from_image(wide)))
        out.mux(stream.encode(None))
    assert path.stat().st_size < 1 << 16
    code = (
        "from llmrec.content.media.errors import MediaError\n"
        f"try: sample_frames(Path({str(path)!r}), 1)\n"
        "except MediaError: pass\n"
        "else: raise SystemExit('it was decoded')\n"
    )
    ready = "from llmrec.content.media.video import sample_frames; import av"
    assert peak_growth_mib(ready, code) < 40  # 109 MiB where FFmpeg looks at one frame


def test_a_broken_tail_leaves_the_beginning(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (48, 48, 64, 3), np.uint8)
    whole = video(tmp_path / "whole.mkv", lambda n: noise[n], 48).read_bytes()
    clip = sample_frames(whole[: len(whole) // 2], 4)
    assert len(clip.times) == 4 and 1.5 < clip.times[-1] < 3.5


@pytest.mark.parametrize("kind", ["mp4", "mkv", "avi"])
def test_damage_never_raises_anything_but_a_media_error(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(0)
    path = video(tmp_path / f"clip.{kind}", lambda n: shade(9 * n), 24)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    for _ in range(15):
        bad = whole.copy()
        bad[rng.integers(0, len(bad), 30)] = rng.integers(0, 255, 30)
        try:
            sample_frames(bad[: rng.integers(1, len(bad))].tobytes(), 4)
        except MediaError as error:
            assert "\n" not in str(error)


def test_what_is_no_video_says_so(tmp_path: Path) -> None:
    with pytest.raises(EmptyMediaError, match="no picture track"):
        sample_frames(sound(tmp_path / "a.wav", tone(0.5)), 4)
    (tmp_path / "page.mp4").write_text("<html>not found</html>")
    with pytest.raises(UndecodableError, match="not a media file"):
        sample_frames(tmp_path / "page.mp4", 4)


def test_only_plain_containers_are_tried(tmp_path: Path) -> None:
    (tmp_path / "item.mp4").write_bytes(picture())  # FFmpeg reads pictures too
    with pytest.raises(UndecodableError, match="not a media file"):
        sample_frames(tmp_path / "item.mp4", 4)


def test_a_file_cannot_make_other_files_be_read(tmp_path: Path) -> None:
    secret = video(tmp_path / "secret.ts", lambda n: shade(200), 16)
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile://{secret}\n#EXT-X-ENDLIST\n"
    concat = f"ffconcat version 1.0\nfile '{secret}'\n"
    for text in (playlist, concat):
        (tmp_path / "item.mp4").write_text(text)
        with pytest.raises(UndecodableError, match="not a media file"):
            sample_frames(tmp_path / "item.mp4", 4)


def test_a_clip_filmed_sideways_is_turned_upright(tmp_path: Path) -> None:
    def split(n: int) -> np.ndarray:
        return np.concatenate([shade(200, (48, 32)), shade(20, (48, 32))], axis=1)

    path = video(tmp_path / "phone.mp4", split, 8)
    whole = bytearray(path.read_bytes())
    # the track header's matrix: show it turned by 90 degrees clockwise, as phones write it
    at = whole.index(b"tkhd") + 44
    one = 1 << 16
    whole[at : at + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    frame = sample_frames(bytes(whole), 1).frames[0]
    assert frame.shape == (64, 48, 3)
    assert frame[:20].mean() > 150 > 60 > frame[-20:].mean()  # the left side is up


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("choice", ["even", "scenes"])
def test_real_clips_give_frames_over_their_whole_length(
    shared_data: Path, name: str, choice: str
) -> None:
    path = shared_data / "video" / name
    if not path.is_file():
        pytest.skip(f"no {path}")
    clip = sample_frames(path, 6, choice=choice, side=64)
    assert len(clip.frames) == 6 and min(clip.frames.shape[1:3]) == 64
    assert (np.diff(clip.times) > 0).all() and clip.times[-1] > 6
