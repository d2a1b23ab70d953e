"""Worlds that benchmarks share with the packages they measure."""

from cascade_shop import recommender, shop
from fusion_world import folders, world

__all__ = ["folders", "recommender", "shop", "world"]
