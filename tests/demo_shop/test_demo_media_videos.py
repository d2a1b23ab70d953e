"""The demo shop's clips: no frame tells the motion, their order does."""

from collections import Counter

import av
import numpy as np
import pytest
from PIL import Image

from llmrec.demo_shop.media.videos import FRAMES, make_frames, motion_steps, write_video
from llmrec.demo_shop.vocabulary import MOTIONS

LOOKS = [("mug", "red"), ("t-shirt", "blue"), ("sneakers", "white"), ("watering can", "green")]


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def look(n: int, motion: str) -> dict[str, str]:
    kind, colour = LOOKS[n % len(LOOKS)]
    pattern = ("plain", "striped", "dotted")[n % 3]
    return {
        "category": kind,
        "colour": colour,
        "accent": "navy",
        "pattern": pattern,
        "motion": motion,
    }


@pytest.fixture(scope="module")
def clips() -> dict[str, np.ndarray]:
    """float ``[clips, frames, 24, 24]`` a motion, in grey; no two clips of one seed."""
    return {
        motion: np.stack(
            [
                np.stack(
                    [np.asarray(f.convert("L"), float) for f in make_frames(look(n, motion), r, 24)]
                )
                for n in range(24)
                for r in [rng(m, n)]
            ]
        )
        for m, motion in enumerate(MOTIONS)
    }


@pytest.mark.parametrize("frame", [0, 5, FRAMES - 1])
def test_any_frame_of_any_motion_is_anywhere_on_the_circle_alike(frame):
    for m, motion in enumerate(MOTIONS):
        where = Counter(int(motion_steps(motion, rng(m, n))[frame]) for n in range(3200))
        assert set(where) == set(range(FRAMES))
        assert max(where.values()) / min(where.values()) < 1.6, motion  # 200 expected of each


def test_turning_and_in_use_have_the_same_frames_in_another_order():
    for seed in range(20):
        turning, in_use = (motion_steps(motion, rng(seed)) for motion in ("turning", "in_use"))
        assert sorted(turning) == sorted(in_use) == list(range(FRAMES))
        steps = np.diff(turning) % FRAMES
        assert set(steps) in ({1}, {FRAMES - 1})  # once around, without a stop
        there, back = np.diff(in_use) % FRAMES, np.diff(in_use[::-1]) % FRAMES
        assert set(there[:7]) == set(back[:7]) in ({2}, {FRAMES - 2})  # round and back


def test_still_holds_four_views():
    for seed in range(20):
        steps = motion_steps("still", rng(seed))
        assert [len(set(held)) for held in steps.reshape(4, 4)] == [1, 1, 1, 1]
        assert set(np.diff(sorted(set(steps)))) == {4}


def nearest_motion(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Labels of the nearest neighbours."""
    distance = ((test[:, None] - train[None]) ** 2).sum(axis=-1)
    return labels[distance.argmin(axis=1)]


def test_single_frames_do_not_tell_the_motion(clips):
    """Nearest neighbours among the first frames of other clips: no better than a guess."""
    frames = np.concatenate([clips[motion][:, ::5].reshape(-1, 24 * 24) for motion in MOTIONS])
    per_motion = len(frames) // 3
    labels = np.repeat(np.arange(3), per_motion)
    clip = np.tile(np.repeat(np.arange(24), per_motion // 24), 3)
    train = clip < 12
    guess = nearest_motion(frames[train], labels[train], frames[~train])
    assert abs(np.mean(guess == labels[~train]) - 1 / 3) < 0.15


def guess_motion(frames: np.ndarray) -> str:
    """By differences alone: does it move between frames, and does it come back the same way?"""

    def change(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.abs(one - other).mean(axis=(1, 2))

    forward = change(frames[1:], frames[:-1])
    if np.median(forward) < 0.3 * forward.max():
        return "still"
    folded = change(frames[: FRAMES // 2], frames[: FRAMES // 2 - 1 : -1])
    return "in_use" if folded.mean() < forward.mean() else "turning"


def test_differences_between_frames_tell_the_motion(clips):
    for motion in MOTIONS:
        guesses = Counter(guess_motion(clip) for clip in clips[motion])
        assert guesses[motion] >= 21, (motion, guesses)


def test_the_same_frames_in_random_order_tell_turning_from_in_use_no_more(clips):
    guesses = Counter(
        guess_motion(clip[rng(n).permutation(FRAMES)]) == motion
        for motion in ("turning", "in_use")
        for n, clip in enumerate(clips[motion])
    )
    assert guesses[True] < 34  # of 48


def test_a_clip_is_written_bit_by_bit_the_same(tmp_path):
    for n in range(6):
        frames = list(make_frames(look(n, MOTIONS[n % 3]), rng(n)))
        written = set()
        for attempt in range(5):
            write_video(tmp_path / f"{attempt}.mp4", iter(frames))
            written.add((tmp_path / f"{attempt}.mp4").read_bytes())
        assert len(written) == 1


def test_a_clip_reads_back_as_it_was(tmp_path):
    frames, path = list(make_frames(look(1, "turning"), rng(5))), tmp_path / "clip.mp4"
    write_video(path, iter(frames))
    with av.open(str(path)) as clip:
        read = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
        assert clip.duration / av.time_base == pytest.approx(FRAMES / 8)
    assert len(read) == FRAMES
    for frame, image in zip(read, frames, strict=True):
        assert np.abs(frame.astype(int) - np.asarray(image)).mean() < 6


def test_the_first_frame_is_a_picture_of_the_whole_product():
    frame = next(make_frames(look(0, "still"), rng(1)))
    assert isinstance(frame, Image.Image)
    assert (frame.size, frame.mode) == ((96, 96), "RGB")
