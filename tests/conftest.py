"""Fixtures shared by all tests."""

import gc
import os
from pathlib import Path

import pytest
from hypothesis import settings

# one small trained run for all tests that need one, vLLM on it, a disk that is soon full, and what
# wandb writes
pytest_plugins = ["small_disk", "tiny_shop", "tiny_tuned", "two_shops", "vllm_here", "wandb_files"]

# an example takes as long as the machine is busy
settings.register_profile("llmrec", deadline=None)
settings.load_profile("llmrec")

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a hub that cannot be reached costs minutes
gc.disable()  # it would look for garbage in a growing heap of modules, a fifth of the collection


def pytest_collection_finish() -> None:
    """From here on garbage is looked for, but not in what has been imported."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    """Libraries report what is left of them when the process ends."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets, or a skip that says where it was looked for."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("LLMREC_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set LLMREC_DATA to its folder")
    return folder
