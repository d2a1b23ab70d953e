"""The README tells the truth: its tree, its commands, its tables."""

import re
import subprocess
import sys
from pathlib import Path

from llmrec.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def tree_entries() -> tuple[set[str], set[str]]:
    """(top-level folders, entries of llmrec/) that the README's tree lists."""
    block = README.split("## The tree", 1)[1].split("```")[1]
    top, inner = set(), set()
    for line in block.strip().splitlines():
        name = line.split()[0].rstrip("/")
        (inner if line.startswith("  ") else top).add(name)
    return top, inner


def tracked(folder: str) -> set[str]:
    """Names git knows directly under a folder."""
    listed = subprocess.run(
        ["git", "ls-files", "--", folder], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    depth = len(Path(folder).parts) if folder != "." else 0
    return {Path(path).parts[depth] for path in listed}


def test_the_tree_lists_every_folder_and_nothing_else() -> None:
    top, inner = tree_entries()
    folders = {name for name in tracked(".") if (ROOT / name).is_dir() and name[0] != "."}
    assert top == folders
    parts = {name for name in tracked("llmrec") if not name.startswith("__") and name != "cli.py"}
    assert inner == parts


def test_every_command_it_names_exists() -> None:
    named = set(re.findall(r"(?:^|`)llmrec (\w+)", README, re.MULTILINE))
    known = {command.split()[0] for command in COMMANDS}
    assert len(named) >= 5
    assert named <= known, named - known


def test_its_result_tables_are_those_of_the_result_files() -> None:
    script = [sys.executable, "eval/readme_tables.py", "--check"]
    assert subprocess.run(script, cwd=ROOT, check=False).returncode == 0
