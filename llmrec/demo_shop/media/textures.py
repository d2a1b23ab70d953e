"""What fills a drawn product: colours and the six patterns, as arrays of pixels."""

from __future__ import annotations

import numpy as np

from llmrec.demo_shop.vocabulary import Colour

_CLEAR = 110.0  # RGB distance from which two colours are told apart at a glance
_COARSEST, _FINEST = 0.34, 0.24  # period of a pattern, in units of the drawing


def vary(colour: Colour, rng: np.random.Generator) -> np.ndarray:
    """float ``[3]``: the colour a little lighter or darker, and a little off."""
    varied = np.array(colour, dtype=float) * rng.uniform(0.93, 1.06) + rng.normal(0.0, 4.0, 3)
    return np.clip(varied, 0, 255)


def shade(colour: np.ndarray, amount: float) -> np.ndarray:
    """Towards black (negative) or white (positive); what has no room goes the other way."""
    brightness = float(colour.mean())
    if brightness < 60 and amount < 0:
        amount = 0.22
    if brightness > 215 and amount > 0:
        amount = -0.12
    goal = np.full(3, 255.0 if amount > 0 else 0.0)
    return colour + abs(amount) * (goal - colour)


def set_apart(accent: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """The accent, moved towards white or black until it stands out from ``colour``."""
    goal = np.full(3, 255.0 if colour.mean() < 128 else 0.0)
    for share in np.linspace(0.0, 1.0, 11):
        moved = accent + share * (goal - accent)
        if np.linalg.norm(moved - colour) >= _CLEAR:
            return moved
    return goal


def texture(
    pattern: str, colour: np.ndarray, accent: np.ndarray, pixels: int, rng: np.random.Generator
) -> np.ndarray:
    """A square of cloth, uint8 ``[pixels, pixels, 3]``; most of it has ``colour``.

    Args:
        pattern: a key of ``vocabulary.PATTERNS``.
    """
    side = np.linspace(-1.1, 1.1, pixels) / rng.uniform(_FINEST, _COARSEST)
    x, y = np.meshgrid(side + rng.uniform(0, 1), side + rng.uniform(0, 1))
    halves = (2 * _COVERS[pattern](x, y, rng)).astype(np.intp)  # of the accent: 0, 1 or 2
    shades = colour + np.array([[0.0], [0.5], [1.0]]) * (set_apart(accent, colour) - colour)
    return np.clip(shades, 0, 255).astype(np.uint8)[halves]


def _plain(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.zeros_like(x)


def _striped(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    angle = rng.choice([0.0, np.pi / 2]) + rng.normal(0.0, 0.06)
    across = x * np.cos(angle) + y * np.sin(angle)
    return (across % 1.0 < rng.uniform(0.34, 0.44)).astype(float)


def _checked(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gingham: full where two bands cross, half where there is one."""
    width = rng.uniform(0.3, 0.36)
    return 0.5 * (x % 1.0 < width) + 0.5 * (y % 1.0 < width)


def _staggered(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Offsets from the middle of the nearest cell; every second row is moved by half a cell."""
    row = np.floor(y)
    return (x + 0.5 * (row % 2)) % 1.0 - 0.5, y - row - 0.5


def _dotted(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    u, v = _staggered(x, y)
    return (np.hypot(u, v) < rng.uniform(0.24, 0.3)).astype(float)


def _floral(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Five petals around a middle that shows the cloth."""
    u, v = _staggered(x * 0.72, y * 0.72)
    radius, angle = np.hypot(u, v), np.arctan2(v, u) + rng.uniform(0, 2 * np.pi)
    petals = radius < 0.3 + 0.14 * np.cos(5 * angle)
    return (petals & (radius > 0.1)).astype(float)


def _geometric(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Zigzags or rows of triangles."""
    wave = np.abs(x % 1.0 - 0.5)
    if rng.random() < 0.5:
        return ((0.85 * y + 1.5 * wave) % 1.0 < 0.38).astype(float)
    return (y % 1.0 > 2.0 * wave + 0.12).astype(float)


_COVERS = {
    "plain": _plain,
    "striped": _striped,
    "checked": _checked,
    "dotted": _dotted,
    "floral": _floral,
    "geometric": _geometric,
}
