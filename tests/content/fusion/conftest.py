"""The small world, in memory and on disk."""

from fusion_world import folders, world

__all__ = ["folders", "world"]
