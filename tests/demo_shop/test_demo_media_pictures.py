"""What the demo shop's pictures show: every kind its own shape, colours that can be measured."""

from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from llmrec.demo_shop.catalogue import make_catalogue
from llmrec.demo_shop.kinds import KINDS
from llmrec.demo_shop.media.geometry import both_sides, box, mirrored, stroke
from llmrec.demo_shop.media.pictures import (
    DRAWINGS,
    Pose,
    draw_product,
    make_picture,
    random_backdrop,
    view,
)
from llmrec.demo_shop.media.textures import set_apart, shade, texture
from llmrec.demo_shop.vocabulary import COLOURS, FIXED, PALETTE, PATTERNS
from llmrec.types import Item

NAMES = list(PALETTE)
COLOUR_TABLE = np.array([PALETTE[name] for name in NAMES], dtype=float)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def look(kind: str = "mug", colour: str = "red", accent: str = "white", pattern: str = "plain"):
    return {"category": kind, "colour": colour, "accent": accent, "pattern": pattern}


def test_every_kind_is_drawn_in_known_materials_and_mostly_in_its_cloth():
    assert set(DRAWINGS) == {kind.name for kind in KINDS}
    for parts in DRAWINGS.values():
        assert {part.role for part in parts} <= {"body", "dark", "light", "hole", *FIXED}
        assert any(part.role == "body" for part in parts)
        assert all(abs(value) <= 1.05 for part in parts for xy in part.outline for value in xy)
    assert set(PALETTE) == set(COLOURS)


def test_no_two_kinds_have_the_same_silhouette():
    shapes = {
        kind: np.asarray(draw_product(look(kind), 64, rng()))[..., 3] > 0 for kind in DRAWINGS
    }
    overlaps = {
        (a, b): (shapes[a] & shapes[b]).sum() / (shapes[a] | shapes[b]).sum()
        for a, b in combinations(DRAWINGS, 2)
    }
    assert max(overlaps.values()) < 0.97, max(overlaps, key=overlaps.get)
    assert min(shape.mean() for shape in shapes.values()) > 0.1


def guess_colour(picture: Image.Image) -> str:
    """The palette's colour that most of the foreground is nearest to; nothing is learned.

    The background is what a slope fitted to the picture's rim predicts.
    """
    pixels = np.asarray(picture, dtype=float)
    side = np.arange(len(pixels)) / len(pixels)
    x, y = np.meshgrid(side, side)
    terms = np.stack([np.ones_like(x), x, y, x * y], axis=-1)
    rim = np.ones(x.shape, dtype=bool)
    rim[4:-4, 4:-4] = False
    slope = np.linalg.lstsq(terms[rim], pixels[rim], rcond=None)[0]
    foreground = pixels[np.abs(pixels - terms @ slope).sum(axis=-1) > 90]
    distance = ((foreground[:, None] - COLOUR_TABLE) ** 2).sum(axis=-1)
    return NAMES[np.bincount(distance.argmin(axis=1), minlength=len(NAMES)).argmax()]


@pytest.fixture(scope="module")
def pictured() -> list[tuple[Item, Image.Image]]:
    items = make_catalogue(0, 100).items
    return [(item, make_picture(item.attributes, rng(n), 64)) for n, item in enumerate(items)]


def test_colours_can_be_measured_in_pixels(pictured):
    right = {True: [], False: []}
    for item, picture in pictured:
        plain = item.attributes["pattern"] == "plain"
        right[plain].append(guess_colour(picture) == item.attributes["colour"])
    assert np.mean(right[True]) > 0.9
    assert np.mean(right[True] + right[False]) > 0.75


def test_two_pictures_of_one_look_differ_and_the_same_seed_gives_one():
    one, again, other = (np.asarray(make_picture(look(), rng(s), 64), int) for s in (1, 1, 2))
    assert (one == again).all()
    assert np.abs(one - other).mean() > 10


def test_backdrops_leave_every_colour_to_be_seen():
    for colour, seen in PALETTE.items():
        for seed in range(5):
            backdrop = random_backdrop(colour, 16, rng(seed)).mean(axis=(0, 1))
            assert np.linalg.norm(backdrop - np.array(seen)) > 90


@pytest.mark.parametrize("pattern", PATTERNS)
def test_most_of_a_patterned_cloth_has_the_items_own_colour(pattern):
    own, other = np.array([200.0, 30, 30]), np.array([240.0, 240, 240])
    for seed in range(8):
        cloth = texture(pattern, own, other, 96, rng(seed)).astype(float)
        share = (np.abs(cloth - other).sum(axis=-1) < 30).mean()
        assert share == 0 if pattern == "plain" else 0.05 < share < 0.45
        nearer = np.linalg.norm(cloth - own, axis=-1) <= np.linalg.norm(cloth - other, axis=-1)
        assert nearer.mean() > 0.5


def test_patterns_differ_in_more_than_their_colours():
    """Stripes vary along one axis, checks along both, dots and flowers along neither alone."""
    own, other = np.array([250.0, 250, 250]), np.array([0.0, 0, 0])

    def axes(pattern):
        cloth = texture(pattern, own, other, 128, rng(3))[..., 0].astype(float)
        return sorted([cloth.mean(axis=0).std(), cloth.mean(axis=1).std()])

    assert axes("plain") == [0, 0]
    striped, checked, dotted = axes("striped"), axes("checked"), axes("dotted")
    assert striped[0] < 0.5 * striped[1]
    assert checked[0] > 0.8 * checked[1] > 40
    assert dotted[0] < 35


def test_an_accent_that_would_not_be_seen_is_moved_until_it_is():
    for colour in PALETTE.values():
        for accent in PALETTE.values():
            ground = np.array(colour, dtype=float)
            moved = set_apart(np.array(accent, dtype=float), ground)
            assert np.linalg.norm(moved - ground) >= 100
    far = np.array([255.0, 255, 255])
    assert (set_apart(far, np.zeros(3)) == far).all()


def test_shades_of_black_and_white_can_be_told_from_them():
    black, white = np.full(3, 33.0), np.full(3, 246.0)
    assert shade(black, -0.3).mean() > 60
    assert shade(white, 0.35).mean() < 225
    assert shade(np.full(3, 120.0), -0.5).mean() == 60


def test_half_a_turn_shows_the_mirror_image_and_the_near_edge_is_the_taller():
    square = Image.new("RGBA", (80, 80))
    square.paste((255, 0, 0, 255), (10, 20, 40, 60))  # left of the middle
    front, back, aside = (
        np.asarray(view(square, Pose(turn, 0, 1.0, 0, 0)))[..., 3] > 128
        for turn in (0.0, np.pi, np.pi / 4)
    )
    assert front[:, :40].sum() > 1000 > 10 > front[:, 41:].sum()
    assert back[:, 39:].sum() > 1000 > 10 > back[:, :38].sum()
    columns = aside.sum(axis=0)
    columns = columns[columns > 0]
    assert len(columns) < 30 and columns[1] > columns[-2] + 2


def test_a_pose_tilts_scales_and_moves():
    bar = Image.new("RGBA", (80, 80))
    bar.paste((0, 0, 255, 255), (10, 36, 70, 44))
    upright = np.asarray(view(bar, Pose(0, np.pi / 2, 0.5, 0.1, 0)))[..., 3] > 128
    rows, columns = np.nonzero(upright)
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (pytest.approx(30, abs=2), 4)
    assert columns.mean() == pytest.approx(40 + 8, abs=1)


def test_outlines_are_built_as_said():
    assert mirrored((1, 0), (2, 1)) == ((1, 0), (2, 1), (-2, 1), (-1, 0))
    left = both_sides(box("dark", 1, 2, 3, 4))[1]
    assert sorted(left.outline) == [(-3, 2), (-3, 4), (-1, 2), (-1, 4)]
    line = stroke("dark", 2.0, (0, 0), (4, 0))
    assert sorted(line.outline) == [(0, -1), (0, 1), (4, -1), (4, 1)]
