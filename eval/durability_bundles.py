"""Ways to damage files, and bundles that are damaged: is each noticed when it is opened?

Part of ``eval/durability.py``.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from safetensors.numpy import load_file, save_file

from llmrec.bench.random_shop import RandomShopConfig, make_model, make_shop
from llmrec.bench.random_texts import write_features, write_text_model
from llmrec.content.features.text import EmbedConfig
from llmrec.errors import ArtifactError
from llmrec.files import hash_files, list_files
from llmrec.ranking.ctr.settings import NetworkConfig
from llmrec.serving import build
from llmrec.serving.bundle import Bundle

SMALL = NetworkConfig(id_dim=4, field_dim=4, token_dim=4, fused_dim=4, category_dim=2, bins=4,
                      number_dim=2, heads=2, head_dim=4, cross_rank=4, hidden=(16, 8),
                      copies=2)  # fmt: skip
BEAUTY_ITEMS, MINILM_DIM = 12_101, 384


def problem(check: Callable[..., object], *given: object) -> str | None:
    """What a check says of a folder, None where it finds nothing."""
    try:
        check(*given)
    except ArtifactError as error:
        return str(error)
    return None


def flip(path: Path, place: int | None = None) -> None:
    """Change one bit."""
    data = bytearray(path.read_bytes())
    if data:
        data[len(data) // 2 if place is None else place] ^= 1
    path.write_bytes(data)


def swap(path: Path) -> None:
    """Exchange a file with another one of its folder, where there is one."""
    others = [one for one in sorted(path.parent.iterdir()) if one.is_file() and one != path]
    if others:
        mine, theirs = path.read_bytes(), others[0].read_bytes()
        path.write_bytes(theirs)
        others[0].write_bytes(mine)


def halve(path: Path) -> None:
    """Cut a file off in the middle."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGE: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "emptied": lambda path: path.write_bytes(b""),
    "halved": halve,
    "flipped": flip,
    "swapped": swap,
}


def make_bundle(home: Path, items: int, texts: str, dim: int, ctr: bool) -> Path:
    """A bundle of random weights that reads words."""
    settings = RandomShopConfig(items=items, users=50, dim=8, network=SMALL)
    if ctr:
        make_shop(home, settings)
    else:
        make_model(home, settings, np.random.default_rng(0))
    dataset = home / "dataset"
    features = write_features(home / "features", dataset, dim, EmbedConfig(model=texts))
    return build.run(
        dataset, home / "model", home / "whole", features, ctr=home / "ctr" if ctr else None
    )


def reorder(path: Path, rng: np.random.Generator) -> None:
    """Exchange two rows of a table."""
    table = pq.read_table(path)
    rows = np.arange(len(table))
    one, other = rng.choice(len(rows), 2, replace=False)
    rows[[one, other]] = rows[[other, one]]
    pq.write_table(table.take(rows), path)


def change_tensor(path: Path, rng: np.random.Generator) -> None:
    """Write a file of tensors in which one number is another."""
    tensors = load_file(path)
    name = str(rng.choice(sorted(name for name, value in tensors.items() if value.size)))
    value = tensors[name].copy().reshape(-1)
    value[rng.integers(value.size)] += 1
    tensors[name] = value.reshape(tensors[name].shape)
    save_file(tensors, path, metadata={"format": "pt"})


def damage_bundle(bundle: Path, rng: np.random.Generator) -> str:
    """Damage a bundle in one of many ways; what was done."""
    files = sorted(path for path in bundle.rglob("*") if path.is_file())
    path = files[rng.integers(len(files))]
    ways: dict[str, Callable[[], object]] = {
        **{way: (lambda damage=damage: damage(path)) for way, damage in DAMAGE.items()},
        "flipped anywhere": lambda: flip(path, int(rng.integers(path.stat().st_size))),
        "one byte more": lambda: path.write_bytes(path.read_bytes() + b"\n"),
        "zeros": lambda: path.write_bytes(bytes(path.stat().st_size)),
        "another file added": lambda: shutil.copy(path, bundle / "model" / "added.json"),
    }
    if path.suffix == ".parquet":
        ways["rows exchanged"] = lambda: reorder(path, rng)
    if path.suffix == ".safetensors":
        ways["a number changed"] = lambda: change_tensor(path, rng)
    way = str(rng.choice(list(ways)))
    ways[way]()
    return f"{way}: {path.relative_to(bundle)}"


def damage_bundles(home: Path, ways: int, rng: np.random.Generator) -> dict[str, Any]:
    """How many damaged bundles are noticed when they are opened."""
    whole = make_bundle(home, 200, str(write_text_model(home / "texts")), 16, ctr=True)
    Bundle(whole)
    missed, tried = list[str](), 0
    while tried < ways:
        bundle = home / "bundle"
        shutil.rmtree(bundle, ignore_errors=True)
        shutil.copytree(whole, bundle)
        done = damage_bundle(bundle, rng)
        if list_files(bundle) == list_files(whole):  # an empty file was emptied
            continue
        tried += 1
        error = problem(Bundle, bundle)
        if error is None or "\n" in error or str(bundle) not in error:
            missed.append(f"{done}: {error}")
    return {"damaged": tried, "noticed": tried - len(missed), "missed": missed}


def opening(home: Path, rounds: int) -> dict[str, float]:
    """Seconds to open a bundle of Beauty's size, with hashes and without, and to hash a GiB."""
    bundle = make_bundle(home, BEAUTY_ITEMS, "minilm", MINILM_DIM, ctr=False)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    Bundle(bundle)
    for number in range(rounds):
        for hashes in (True, False) if number % 2 else (False, True):
            began = time.perf_counter()
            Bundle(bundle, verify=hashes)
            seconds[hashes].append(time.perf_counter() - began)
    size = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
    large = home / "large"
    large.write_bytes(np.random.default_rng(0).bytes(1 << 28))
    began = time.perf_counter()
    hash_files([large])
    per_gib = 4 * (time.perf_counter() - began)
    verified, plain = (statistics.median(seconds[hashes]) for hashes in (True, False))
    return {
        "open_mib": round(size / 2**20, 1),
        "open_with_hashes_s": verified,
        "open_without_hashes_s": plain,
        "open_ratio": verified / plain,
        "hash_s_per_gib": per_gib,
    }
