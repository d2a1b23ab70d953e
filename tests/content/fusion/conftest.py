"""The small world, in memory and on disk."""

from pathlib import Path
from typing import NamedTuple

import pytest
from fusion_world import World, make_world, write_dataset, write_features, write_media


class Folders(NamedTuple):
    """What ``llmrec train fusion`` reads."""

    dataset: Path
    features: Path
    media: Path


@pytest.fixture(scope="session")
def world() -> World:
    return make_world()


@pytest.fixture(scope="session")
def folders(world: World, tmp_path_factory: pytest.TempPathFactory) -> Folders:
    home = tmp_path_factory.mktemp("fusion_world")
    image = world.modalities.blocks["image"]
    return Folders(
        write_dataset(home / "dataset", world.histories, len(world.modalities)),
        write_features(home / "features", world.modalities.blocks["text"]),
        write_media(home / "media", {"image": image}, world.modalities.present[:, 1]),
    )
