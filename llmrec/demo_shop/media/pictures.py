"""Pictures of the demo shop's items, in which kind, colour and pattern are visible.

Nothing else about a picture is informative: pose, proportions, backdrop, light and noise
are drawn at random, so that a model has to find the product in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from llmrec.demo_shop.media.clothing import CLOTHING
from llmrec.demo_shop.media.geometry import Part, Point
from llmrec.demo_shop.media.home import HOME
from llmrec.demo_shop.media.textures import shade, texture, vary
from llmrec.demo_shop.vocabulary import FIXED, PALETTE, Colour

DRAWINGS: dict[str, tuple[Part, ...]] = CLOTHING | HOME
PICTURE_PIXELS = 128
_MARGIN = 1.1  # half the side of the drawing, in its own units
_VIEW_DISTANCE = 3.2  # of the camera, in the same units


@dataclass(frozen=True)
class Pose:
    """Where and how a product is placed.

    Attributes:
        turn: about the upright axis, in radians; half a turn shows the mirror image.
        tilt: in the plane of the picture, in radians.
        scale: share of the picture's side that the drawing's square takes up.
        x, y: position of its middle, in shares of the side from the picture's middle.
    """

    turn: float
    tilt: float
    scale: float
    x: float
    y: float


def random_pose(rng: np.random.Generator) -> Pose:
    """As a photographer would place a product: nearly upright, nearly from the front."""
    return Pose(
        turn=rng.uniform(-0.6, 0.6) + np.pi * (rng.random() < 0.5),
        tilt=rng.normal(0.0, 0.13),
        scale=rng.uniform(0.8, 0.97),
        x=rng.uniform(-0.05, 0.05),
        y=rng.uniform(-0.05, 0.05),
    )


def draw_product(
    attributes: Mapping[str, str], pixels: int, rng: np.random.Generator
) -> Image.Image:
    """The product alone, from the front, RGBA ``pixels`` square.

    Args:
        attributes: of an item of the demo shop: category, colour, accent and pattern.
    """
    colour = vary(PALETTE[attributes["colour"]], rng)
    accent = vary(PALETTE[attributes["accent"]], rng)
    cloth = Image.fromarray(texture(attributes["pattern"], colour, accent, pixels, rng))
    cloth = cloth.convert("RGBA")
    shades = {"dark": shade(colour, -0.3), "light": shade(colour, 0.35)}
    edge = _rgb(shade(colour, -0.5))
    stretch = rng.uniform(0.9, 1.06, size=2)
    drawing = Image.new("RGBA", (pixels, pixels))
    for part in DRAWINGS[attributes["category"]]:
        corners = [_to_pixels(point, stretch, pixels) for point in part.outline]
        mask = Image.new("L", (pixels, pixels))
        ImageDraw.Draw(mask).polygon(corners, fill=255)
        box = mask.getbbox()
        if part.role == "hole":
            drawing.paste((0, 0, 0, 0), box, mask.crop(box))
            continue
        fill = shades[part.role] if part.role in shades else FIXED.get(part.role)
        drawing.paste(cloth.crop(box) if fill is None else _rgb(fill), box, mask.crop(box))
        line = edge if fill is None else _rgb(shade(np.array(fill, dtype=float), -0.35))
        ImageDraw.Draw(drawing).line([*corners, corners[0]], fill=line, width=2)
    return drawing


def _to_pixels(point: Point, stretch: np.ndarray, pixels: int) -> tuple[float, float]:
    x, y = (float(value * s) for value, s in zip(point, stretch, strict=True))
    return (x + _MARGIN) / (2 * _MARGIN) * pixels, (y + _MARGIN) / (2 * _MARGIN) * pixels


def _rgb(colour: np.ndarray | Colour) -> tuple[int, int, int, int]:
    red, green, blue = (int(value) for value in np.clip(colour, 0, 255))
    return red, green, blue, 255


def view(product: Image.Image, pose: Pose) -> Image.Image:
    """The product as the camera sees it in ``pose``: RGBA of the same size.

    A flat picture that is turned about the upright axis: its near edge is the taller one.
    """
    pixels = product.width
    narrow = np.cos(pose.turn)
    narrow = np.copysign(max(abs(narrow), 0.2), narrow)  # things have a depth
    turn = np.array(
        [[narrow, 0, 0], [0, 1, 0], [np.sin(pose.turn) * _MARGIN / _VIEW_DISTANCE, 0, 1]]
    )
    cos, sin = np.cos(pose.tilt) * pose.scale, np.sin(pose.tilt) * pose.scale
    place = np.array([[cos, -sin, 2 * pose.x], [sin, cos, 2 * pose.y], [0, 0, 1]])
    to_units = np.array([[2 / pixels, 0, -1], [0, 2 / pixels, -1], [0, 0, 1]])
    back = np.linalg.inv(to_units) @ np.linalg.inv(place @ turn) @ to_units
    coefficients = (back / back[2, 2]).ravel()[:8].tolist()
    return product.transform(
        (pixels, pixels), Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR
    )


def random_backdrop(colour: str, pixels: int, rng: np.random.Generator) -> np.ndarray:
    """A softly lit wall that ``colour`` stands out from: float ``[pixels, pixels, 3]``."""
    product = np.array(PALETTE[colour], dtype=float)
    while True:
        tint = rng.uniform(90, 250) + rng.normal(0.0, 14.0, 3)
        if np.linalg.norm(tint - product) > 110:
            break
    return np.clip(tint * random_light(pixels, rng, 0.16), 0, 255)


def random_light(pixels: int, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Brightness that falls off in some direction, around 1: float ``[pixels, pixels, 1]``."""
    angle, side = rng.uniform(0, 2 * np.pi), np.linspace(-1, 1, pixels)
    slope = np.cos(angle) * side[None, :] + np.sin(angle) * side[:, None]
    return (1.0 + rng.uniform(0.3, 1.0) * strength * slope)[..., None]


def place(
    product: Image.Image, backdrop: np.ndarray, light: np.ndarray, noise: np.ndarray
) -> Image.Image:
    """A product before its backdrop, with its shadow; RGB of the backdrop's size.

    Args:
        product: RGBA, twice the backdrop's side or more, which smooths its edges.
        backdrop: float ``[pixels, pixels, 3]``.
        light: float, broadcast to it; multiplies the product's brightness.
        noise: float, broadcast to it; added to everything.
    """
    pixels = len(backdrop)
    small = np.asarray(product.resize((pixels, pixels), Image.Resampling.BOX), dtype=float)
    alpha = small[..., 3:] / 255.0
    blurred = Image.fromarray(small[..., 3].astype(np.uint8)).filter(
        ImageFilter.GaussianBlur(pixels / 40)
    )
    shadow = np.roll(np.asarray(blurred, dtype=float), (pixels // 40, pixels // 50), (0, 1))
    scene = backdrop * (1.0 - 0.3 * shadow[..., None] / 255.0)
    scene = scene + alpha * (small[..., :3] * light - scene) + noise
    return Image.fromarray(np.clip(scene, 0, 255).astype(np.uint8))


def make_picture(
    attributes: Mapping[str, str], rng: np.random.Generator, pixels: int = PICTURE_PIXELS
) -> Image.Image:
    """A picture of an item; the same generator state gives the same pixels."""
    product = draw_product(attributes, 2 * pixels, rng)
    posed = view(product, random_pose(rng))
    backdrop = random_backdrop(attributes["colour"], pixels, rng)
    light = random_light(pixels, rng, 0.18)
    noise = rng.normal(0.0, rng.uniform(1.0, 5.0), (pixels, pixels, 3))
    return place(posed, backdrop, light, noise)
