"""A small shop of random weights, bundled with its click model."""

from pathlib import Path

import pytest

from llmrec.bench.random_shop import RandomShop, ShopSettings, make_shop
from llmrec.cascade.recommender import Recommender
from llmrec.ctr.settings import Network

SMALL = Network(id_dim=4, field_dim=4, token_dim=4, fused_dim=4, category_dim=2, bins=4,
                number_dim=2, heads=2, head_dim=4, cross_rank=4, hidden=(16, 8),
                copies=2)  # fmt: skip


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> RandomShop:
    """60 items, 50 people."""
    settings = ShopSettings(
        items=60, users=50, events=8, dim=8, size="nano", max_items=10, network=SMALL
    )
    return make_shop(tmp_path_factory.mktemp("shop"), settings)


@pytest.fixture(scope="session")
def recommender(shop: RandomShop) -> Recommender:
    return Recommender.load(shop.bundle)


@pytest.fixture
def copied(shop: RandomShop, tmp_path: Path) -> Path:
    """A bundle of one's own, to be damaged."""
    import shutil

    return Path(shutil.copytree(shop.bundle, tmp_path / "bundle"))
