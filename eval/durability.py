"""Is a finished folder ever wrong, and is damage ever missed?

    python eval/durability.py

* Two real runs of a stage with different settings start into one folder, at random times apart,
  half of them over an earlier result; then runs that replace a result are killed at random times.
  The folder must hold one of the two results, byte for byte.
* Every file of the folders of nine stages is deleted, emptied, halved, changed in one bit and
  swapped with another. It must be noticed, and the command that the error names makes the folder
  again.
* A bundle is damaged in many ways; each must be noticed when it is opened.
* A bundle of the size of Amazon Beauty's is opened with and without hashing its files.

Every run is a process of its own, forked from this one, which has imported everything. The
figures go to ``eval/results/durability.json``.
"""

from __future__ import annotations

import os

os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}

import argparse
import contextlib
import json
import re
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from durability_bundles import DAMAGE, damage_bundles, opening, problem

from llmrec import cli
from llmrec.bench.random_texts import write_text_model
from llmrec.files import list_files
from llmrec.metrics.results import write_result
from llmrec.stage import MANIFEST, read_manifest, verify
from llmrec.stages import STAGES

RACED = ("ingest", "embed", "train", "run")
DAMAGED = ("data demo", "ingest", "embed", "index", "train", "model expand", "tune", "bundle",
           "evaluate")  # fmt: skip
RECIPE = """
name: race
ingest: {events: RAW/events.jsonl, items: RAW/items.jsonl, event_types: [click], k_core: CORE}
embed: {model: TEXTS, fields: [title], attributes: true, attribute_dim: 8}
models:
  atomic: {index: {kind: atomic}, train: {base: nano, loop: {epochs: 1}}}
"""
TUNE = {"tune": {"rank": 2, "validation_users": 5, "beams": 5, "loop": {"max_steps": 2}}}
RUN_STEPS = "ingest,embed,atomic/index,atomic/train,atomic/bundle"


# --------------------------------------------------------------------------- processes


def start(words: Sequence[object], log: Path) -> int:
    """Start a command of llmrec in a forked process; its number."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        torch.set_num_threads(1)
        status = cli.main([str(word) for word in words])
    finally:
        os._exit(status)


def end(pid: int) -> int:
    """Wait for a process; its exit status, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run(words: Sequence[object], log: Path) -> str:
    """Run a command to its end; what it printed."""
    if end(start(words, log)):
        raise SystemExit(f"{words}: {log.read_text()}")
    return log.read_text()


# --------------------------------------------------------------------------- what is run


@dataclass(frozen=True)
class World:
    """Where everything is: raw files, a text model, and one result of every stage."""

    home: Path

    @property
    def log(self) -> Path:
        return self.home / "log"

    def command(self, stage: str, out: Path, variant: str = "a") -> list[object]:
        """A stage's command line, in one of two variants whose results differ."""
        first, at = variant == "a", self.home
        data, recipe = ["--dataset", at / "ingest"], at / f"recipe-{variant}.yaml"
        model = ["--item-ids", at / "index", "--features", at / "embed"]
        words: dict[str, list[object]] = {
            "data demo": ["--items", 100, "--users", 60, "--seed", 0 if first else 1],
            "ingest": [recipe],
            "embed": [recipe, *data, "--fields", *(["title"] if first else ["title", "brand"])],
            "index": [*data, "--features", at / "embed", "--kind", "atomic"],
            "train": [*data, *model, "--base", "micro", "--loop.epochs", 2, "--seed", int(first)],
            "model expand": [*data, *model, "--base", "nano"],
            "tune": [at / "tune.yaml", *data, "--base", at / "train"],
            "bundle": [*data, "--model", at / "train", "--features", at / "embed"],
            "evaluate": [*data, "--model", at / "train", "--list-length", 20, "--resamples", 5],
            "run": [recipe, "--only", RUN_STEPS],
        }
        return [*stage.split(), *words[stage], "--out", out]

    def folder(self, stage: str) -> Path:
        """Where the stage's first result is."""
        return self.home / stage.replace(" ", "-")


def make_world(home: Path, stages: Iterable[str]) -> World:
    """Run some stages once, in their order."""
    world = World(home)
    if "embed" in stages:
        write_text_model(home / "texts")
    raw, texts = world.folder("data demo"), home / "texts"
    for variant, core in (("a", 1), ("b", 2)):
        text = RECIPE.replace("RAW", str(raw)).replace("TEXTS", str(texts))
        (home / f"recipe-{variant}.yaml").write_text(text.replace("CORE", str(core)))
    (home / "tune.yaml").write_text(yaml.safe_dump(TUNE))
    for stage in stages:
        run(world.command(stage, world.folder(stage)), world.log)
    return world


# --------------------------------------------------------------------------- races and kills


def content(folder: Path) -> dict[str, object]:
    """sha256 of every file, and settings and seed of every manifest (they hold times as well).

    Hidden files do not count: a run killed right after its folder took its place leaves one there.
    """
    found: dict[str, object] = {}
    for name, (_, digest) in list_files(folder).items():
        if Path(name).name.startswith("."):
            continue
        found[name] = digest
        if Path(name).name == MANIFEST:
            manifest = read_manifest((folder / name).parent)
            found[name] = (manifest.stage, manifest.config, manifest.seed)
    return found


@dataclass(frozen=True)
class Raced:
    """A stage's two results, what differs from run to run, and how long a run takes."""

    results: dict[str, dict[str, object]]
    changing: set[str]
    seconds: float

    def variant(self, folder: Path) -> str | None:
        """The variant whose result a folder is; None for neither."""
        found = content(folder)
        for name, result in self.results.items():
            same = found.keys() == result.keys()
            if same and all(found[k] == result[k] for k in found if k not in self.changing):
                return name
        return None


def prepare(world: World, stage: str) -> Raced:
    """Run both variants alone, the first one twice."""
    results, began = {}, time.monotonic()
    for name, variant in (("a", "a"), ("b", "b"), ("again", "a")):
        out = world.home / f"alone-{name}"
        run(world.command(stage, out, variant), world.log)
        results[name] = content(out)
    seconds = (time.monotonic() - began) / 3
    again = results.pop("again")
    changing = {name for name, digest in again.items() if results["a"][name] != digest}
    return Raced(results, changing, seconds)


def read_whole(folder: Path) -> None:
    """Check every file of every finished folder at and below this one."""
    for path in folder.rglob(MANIFEST):
        read_manifest(path.parent, hashes=True)


def hidden(folder: Path) -> list[str]:
    """What a run left beside its folder."""
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def race(
    world: World, stage: str, raced: Raced, rng: np.random.Generator, earlier: bool
) -> tuple[str | None, bool]:
    """Two runs into one folder.

    Returns:
        what is wrong, None where nothing is; and whether one was refused.
    """
    with tempfile.TemporaryDirectory(dir=world.home) as place:
        out, logs = Path(place) / "out", [world.home / "log-0", world.home / "log-1"]
        if earlier:
            shutil.copytree(world.home / "alone-a", out)
        order = rng.permutation(["a", "b"]).tolist()
        first = start(world.command(stage, out, order[0]), logs[0])
        time.sleep(rng.uniform(0, raced.seconds))
        second = start(world.command(stage, out, order[1]), logs[1])
        statuses = [end(first), end(second)]
        refused = [name for name, status in zip(order, statuses, strict=True) if status == 2]
        for status, log in zip(statuses, logs, strict=True):
            if status not in (0, 2) or (
                status == 2 and "another run writes" not in log.read_text()
            ):
                return f"exit status {status}: {log.read_text()[-300:]}", bool(refused)
        if len(refused) == 2:
            return "both were refused", True
        damage = problem(read_whole, out)
        if damage is not None:
            return damage, bool(refused)
        found = raced.variant(out)
        if found is None or found in refused:
            return f"the folder holds {found}, refused was {refused}", bool(refused)
        left = hidden(Path(place))
        return (f"left beside it: {left}" if left else None), bool(refused)


def kill(world: World, stage: str, raced: Raced, rng: np.random.Generator) -> str | None:
    """Kill a run that replaces a result, then run it again; what is wrong."""
    with tempfile.TemporaryDirectory(dir=world.home) as place:
        out = Path(place) / "out"
        shutil.copytree(world.home / "alone-a", out)
        pid = start(world.command(stage, out, "b"), world.log)
        time.sleep(rng.uniform(0, 1.1 * raced.seconds))
        os.kill(pid, signal.SIGKILL)
        end(pid)
        # in a run's folder some stages may be replaced already
        if stage != "run" and raced.variant(out) is None:
            return f"after the kill the folder holds neither result: {sorted(content(out))}"
        read_whole(out)
        run(world.command(stage, out, "b"), world.log)
        return None if raced.variant(out) == "b" else "the next run did not finish the folder"


def races(
    world: World, stages: Sequence[str], timings: int, kills: int, rng: np.random.Generator
) -> dict[str, Any]:
    """All races and kills; how many went wrong, and in what way."""
    wrong, lost, changing, refused = list[str](), list[str](), dict[str, list[str]](), 0
    for stage in stages:
        raced, began = prepare(world, stage), time.monotonic()
        changing[stage] = sorted(raced.changing)
        for number in range(timings):
            fault, met = race(world, stage, raced, rng, earlier=number % 2 == 1)
            refused += met
            wrong += [f"{stage}: {fault}"] * (fault is not None)
        for _ in range(kills):
            fault = kill(world, stage, raced, rng)
            lost += [f"{stage}: {fault}"] * (fault is not None)
        for name in ("a", "b", "again"):
            shutil.rmtree(world.home / f"alone-{name}")
        seconds = time.monotonic() - began
        print(f"{stage}: raced in {seconds:.0f} s; so far {wrong}, {lost}", flush=True)
    return {"wrong": wrong, "lost": lost, "refused": refused, "not_compared": changing}


# --------------------------------------------------------------------------- damage


def damages(folder: Path) -> Iterator[tuple[str, Path, bool]]:
    """Damage every file of a folder in every way, one at a time, and mend it.

    Yields:
        the way, the file, and whether that is the first file damaged in this way.
    """
    whole = folder.with_name(f"{folder.name}-whole")
    shutil.copytree(folder, whole)
    for way, damage in DAMAGE.items():
        first = True
        for path in sorted(path for path in whole.rglob("*") if path.is_file()):
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(whole, folder)
            place = folder / path.relative_to(whole)
            damage(place)
            if list_files(folder) != list_files(whole):  # an empty file cannot be halved
                yield way, place, first
                first = False
    shutil.rmtree(folder)
    os.replace(whole, folder)


def damage_folders(world: World, stages: Sequence[str]) -> dict[str, Any]:
    """Damage of stages' folders: how much there was, was noticed and mended."""
    counts = {"damaged": 0, "noticed": 0, "by_size": 0, "made_again": 0, "tried_again": 0}
    missed = list[str]()
    for stage in stages:
        folder, began = world.folder(stage), time.monotonic()
        expected = content(folder)
        took = read_manifest(folder).seconds
        for way, path, first in damages(folder):
            counts["damaged"] += 1
            error = problem(read_manifest, folder)
            counts["by_size"] += error is not None
            with contextlib.redirect_stdout(None):
                error = error or problem(verify, folder)
            if error is None or (path.name not in error and way != "swapped"):
                missed.append(f"{way} {path.relative_to(world.home)}: {error}")
                continue
            counts["noticed"] += 1
            if took < 1 or first:
                counts["tried_again"] += 1
                mended = make_again(world, stage, folder, error, expected)
                counts["made_again"] += mended
                if not mended:
                    missed.append(f"{way} {path.relative_to(world.home)}: not made again: {error}")
        print(f"{stage}: {time.monotonic() - began:.0f} s, {counts}", flush=True)
    return {**counts, "missed": missed}


def make_again(
    world: World, stage: str, folder: Path, error: str, expected: dict[str, object]
) -> bool:
    """Do what an error says; whether the folder is then as it was, but for times."""
    named = re.search(r"run llmrec ([a-z ]+) again with --verify", error)
    if named is None:
        if f"remove {folder} and run the stage" not in error:
            return False
        shutil.rmtree(folder)
    elif named[1] != stage or named[1] not in STAGES:
        return False
    printed = run([*world.command(stage, folder), "--verify"], world.log)
    read_whole(folder)
    return "wrote" in printed and content(folder).keys() == expected.keys()


def main() -> None:
    """Measure, print, write the result file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stages", nargs="+", default=[*DAMAGED, "run"], choices=[*DAMAGED, "run"])
    parser.add_argument("--timings", type=int, default=50, help="races of each stage")
    parser.add_argument("--kills", type=int, default=10, help="of runs of each stage")
    parser.add_argument("--ways", type=int, default=200, help="to damage a bundle")
    parser.add_argument("--rounds", type=int, default=30, help="of opening a bundle both ways")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scratch", type=Path, help="folder to work in (default: the system's)")
    parser.add_argument("--results", type=Path, default=Path("eval/results/durability.json"))
    given = parser.parse_args()
    began, rng = time.monotonic(), np.random.default_rng(given.seed)
    with tempfile.TemporaryDirectory(dir=given.scratch) as folder:
        home = Path(folder)
        raced_stages = [stage for stage in RACED if stage in given.stages]
        stages = [stage for stage in DAMAGED if stage in given.stages]
        world = make_world(home, dict.fromkeys([DAMAGED[0], *stages]))
        raced = races(world, raced_stages, given.timings, given.kills, rng)
        folders = damage_folders(world, stages)
        bundles = damage_bundles(home / "bundles", given.ways, rng) if given.ways else {}
        opened = opening(home / "beauty", given.rounds) if given.rounds else {}
    metrics = {
        "races": len(raced_stages) * given.timings,
        "races_wrong": len(raced["wrong"]),
        "races_refused": raced["refused"],
        "kills": len(raced_stages) * given.kills,
        "kills_lost": len(raced["lost"]),
        "folders_damaged": folders["damaged"],
        "folders_noticed": folders["noticed"],
        "folders_noticed_by_size": folders["by_size"],
        "folders_tried_again": folders["tried_again"],
        "folders_made_again": folders["made_again"],
        **{f"bundles_{what}": n for what, n in bundles.items() if what != "missed"},
        **opened,
    }
    write_result(
        given.results,
        dataset="demo shop, 100 items",
        model="every stage",
        metrics=metrics,
        seed=given.seed,
        seconds=time.monotonic() - began,
        command=shlex.join(["python", "eval/durability.py", *sys.argv[1:]]),
        wrong=[*raced["wrong"], *raced["lost"], *folders["missed"], *bundles.get("missed", [])],
        not_compared=raced["not_compared"],
    )
    print(json.dumps(metrics, indent=1))


if __name__ == "__main__":
    main()
