"""Shapes that the demo shop's products are drawn from.

Coordinates run from -1 (left, top) to 1 (right, bottom) over the drawing's square.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

Point = tuple[float, float]


@dataclass(frozen=True)
class Part:
    """One filled outline of a product; later parts cover earlier ones.

    Attributes:
        role: what fills it: ``body`` (the item's pattern), ``dark`` and ``light`` (shades of
            its colour), a fixed colour (see ``vocabulary.FIXED``) or ``hole`` (nothing).
        outline: the polygon's corners.
    """

    role: str
    outline: tuple[Point, ...]


def polygon(role: str, *corners: Point) -> Part:
    """Straight edges."""
    return Part(role, corners)


def box(role: str, left: float, top: float, right: float, bottom: float) -> Part:
    """An upright rectangle."""
    return Part(role, ((left, top), (right, top), (right, bottom), (left, bottom)))


def ellipse(role: str, x: float, y: float, across: float, down: float) -> Part:
    """An ellipse around ``(x, y)`` with radii ``across`` and ``down``."""
    return Part(role, arc(x, y, across, down, 0.0, 360.0, 40))


def arc(
    x: float, y: float, across: float, down: float, start: float, end: float, steps: int = 20
) -> tuple[Point, ...]:
    """Points of an ellipse from ``start`` to ``end``, in degrees clockwise from the right."""
    angles = [math.radians(start + (end - start) * step / steps) for step in range(steps + 1)]
    return tuple((x + across * math.cos(a), y + down * math.sin(a)) for a in angles)


def soft(role: str, *corners: Point) -> Part:
    """A polygon with rounded corners (Chaikin's corner cutting, twice)."""
    points = corners
    for _ in range(2):
        points = tuple(
            (a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1]))
            for a, b in zip(points, points[1:] + points[:1], strict=True)
            for share in (0.2, 0.8)
        )
    return Part(role, points)


def mirrored(*right_half: Point) -> tuple[Point, ...]:
    """A left-right symmetric outline out of its right half, from the top down."""
    return right_half + tuple((-x, y) for x, y in reversed(right_half))


def both_sides(*parts: Part) -> tuple[Part, ...]:
    """The parts and their mirror images."""
    return parts + tuple(Part(p.role, tuple((-x, y) for x, y in p.outline)) for p in parts)


def stroke(role: str, width: float, *points: Point) -> Part:
    """A line of even width through ``points``."""
    left, right = [], []
    for index, (x, y) in enumerate(points):
        before, after = points[max(index - 1, 0)], points[min(index + 1, len(points) - 1)]
        along = (after[0] - before[0], after[1] - before[1])
        length = math.hypot(*along) or 1.0
        across = (-along[1] / length * width / 2, along[0] / length * width / 2)
        left.append((x + across[0], y + across[1]))
        right.append((x - across[0], y - across[1]))
    return Part(role, tuple(left + right[::-1]))


def fringe(
    role: str, left: float, right: float, y: float, length: float, threads: int
) -> tuple[Part, ...]:
    """Threads that hang down from ``y``."""
    step = (right - left) / (threads - 1)
    xs = [left + step * index for index in range(threads)]
    return tuple(stroke(role, 0.04, (x, y), (x, y + length)) for x in xs)
