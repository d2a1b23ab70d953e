"""A stage's folder appears whole or not at all, whatever interrupts the stage."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from llmrec.errors import ArtifactError, LlmrecError
from llmrec.stage import (
    MANIFEST,
    SCHEMA_VERSION,
    Manifest,
    StageRun,
    folder_hash,
    read_manifest,
    run_stage,
    writing,
)


def manifest(**settings: object) -> Manifest:
    return Manifest("embed", dict(settings), {"dataset": "abc"}, seed=0)


def write_greeting(run: StageRun) -> None:
    (run.folder / "greeting.txt").write_text("hello")
    run.counts["files"] = 1


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_finished_stage_describes_itself(tmp_path: Path) -> None:
    out = run_stage(tmp_path / "new" / "features", manifest(model="m"), write_greeting)
    assert names(out.parent) == ["features"]
    assert names(out) == ["greeting.txt", MANIFEST]
    found = read_manifest(out, "embed")
    assert (found.config, found.counts, found.seed) == ({"model": "m"}, {"files": 1}, 0)
    assert found.schema_version == SCHEMA_VERSION
    assert found.libraries["numpy"] == np.__version__
    assert found.fingerprint == manifest(model="m").fingerprint


def test_the_same_settings_are_not_run_twice_and_other_settings_are(tmp_path: Path) -> None:
    out = tmp_path / "features"
    lines: list[str] = []
    runs = []
    for width in (1, 1, 2):
        run_stage(out, manifest(width=width), lambda run: runs.append(run), log=lines.append)
    assert len(runs) == 2
    assert lines[1] == f"embed: up to date in {out}"
    assert read_manifest(out).config == {"width": 2}
    assert names(tmp_path) == ["features"]


def test_the_hash_of_a_folder_follows_what_made_it(tmp_path: Path) -> None:
    folders = [
        run_stage(tmp_path / str(i), manifest(width=width), write_greeting)
        for i, width in enumerate((1, 1, 2))
    ]
    hashes = [folder_hash(folder) for folder in folders]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a readable manifest"),
        ("[]", "no schema_version"),
        ('{"stage": "embed"}', "no schema_version"),
        ('{"schema_version": 1, "stage": "embed"}', "a manifest field is missing"),
        (
            json.dumps({"schema_version": SCHEMA_VERSION + 1, "stage": "embed", "config": {}}),
            f"schema version {SCHEMA_VERSION + 1}, this llmrec reads up to {SCHEMA_VERSION}; "
            "upgrade llmrec",
        ),
        ('{"schema_version": 1, "stage": "ingest", "config": {}}', "'ingest' stage, expected"),
    ],
)
def test_a_manifest_that_cannot_be_used(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(ArtifactError, match=message) as caught:
        read_manifest(tmp_path, "embed")
    assert str(tmp_path) in str(caught.value)


def test_a_missing_manifest_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not found; run the stage that writes"):
        read_manifest(tmp_path / "features")


def test_fields_of_a_later_release_with_the_same_schema_are_ignored(tmp_path: Path) -> None:
    out = run_stage(tmp_path / "features", manifest(), write_greeting)
    raw = json.loads((out / MANIFEST).read_text()) | {"mood": "good"}
    (out / MANIFEST).write_text(json.dumps(raw))
    assert read_manifest(out).stage == "embed"


def test_an_error_leaves_what_stood_there_before(tmp_path: Path) -> None:
    out = run_stage(tmp_path / "features", manifest(width=1), write_greeting)
    with pytest.raises(ZeroDivisionError), writing(out, manifest(width=2)) as run:
        (run.folder / "half.txt").write_text("half")
        _ = 1 / 0
    assert names(tmp_path) == ["features"]
    assert read_manifest(out).config == {"width": 1}
    assert (out / "greeting.txt").read_text() == "hello"


def test_an_input_that_is_missing_is_not_reported_as_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), writing(tmp_path / "features", manifest()):
        (tmp_path / "raw.csv").read_text()
    assert names(tmp_path) == []


def test_a_resumable_stage_goes_on_only_with_the_same_settings(tmp_path: Path) -> None:
    out = tmp_path / "features"
    found = []

    def work(run: StageRun) -> None:
        found.append(names(run.folder))
        (run.folder / "block-0").write_text("done")
        if len(found) < 3:
            raise KeyboardInterrupt

    for width in (1, 1):
        with pytest.raises(KeyboardInterrupt):
            run_stage(out, manifest(width=width), work, resume=True)
        assert not out.exists()
    run_stage(out, manifest(width=2), work, resume=True)
    assert found == [[".fingerprint"], [".fingerprint", "block-0"], [".fingerprint"]]
    assert names(tmp_path) == ["features"]
    assert names(out) == ["block-0", MANIFEST]


def test_a_stage_that_cannot_resume_starts_anew(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), writing(tmp_path / "features", manifest()) as run:
            assert names(run.folder) == [".fingerprint"]
            (run.folder / "half.txt").write_text("half")
            raise KeyboardInterrupt
        assert names(tmp_path) == []


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_llmrec_did_not_write_is_never_replaced(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "thesis"
    if kind == "folder":
        out.mkdir()
        (out / "chapter1.txt").write_text("precious")
    else:
        out.write_text("precious")
    ran = []
    with pytest.raises(LlmrecError, match="not written by llmrec; choose another"):
        run_stage(out, manifest(), ran.append)
    assert ran == []  # said before the work, not after it
    assert names(tmp_path) == ["thesis"]


def test_an_empty_folder_may_be_used(tmp_path: Path) -> None:
    (tmp_path / "features").mkdir()
    run_stage(tmp_path / "features", manifest(), write_greeting)
    assert read_manifest(tmp_path / "features").counts == {"files": 1}


def test_a_folder_that_cannot_be_made_is_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ArtifactError, match=r"embed: .*file.*; choose another output folder"):
        run_stage(tmp_path / "file" / "features", manifest(), write_greeting)


CHILD = """
import sys, time
from pathlib import Path
from llmrec.stage import Manifest, writing
with writing(Path(sys.argv[1]), Manifest("embed", {}), resume=sys.argv[2] == "resume") as run:
    (run.folder / "half.txt").write_text("half")
    print("working", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("resume", ["resume", "anew"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stage_that_is_stopped_leaves_nothing_in_its_place(
    tmp_path: Path, number: signal.Signals, resume: str
) -> None:
    out = tmp_path / "features"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(out), resume],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "working\n"
    assert not out.exists()
    child.send_signal(number)
    child.communicate(timeout=20)
    assert child.returncode != 0
    assert not out.exists()
    half_kept = (tmp_path / ".features.part" / "half.txt").exists()
    assert half_kept == (number == signal.SIGKILL or resume == "resume")
    # The next try ends well whatever the last one left.
    run_stage(out, Manifest("embed", {}), write_greeting, resume=resume == "resume")
    assert names(tmp_path) == ["features"]
    assert (out / "half.txt").exists() == (resume == "resume")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB; a skip where this user may not mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root; the file-size limit is tested")
    command = [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no tmpfs here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


TOO_MUCH = np.zeros(4 << 20, dtype=np.uint8)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(TOO_MUCH.tobytes()),
        lambda path: np.save(path, TOO_MUCH),
        lambda path: save_file({"rows": TOO_MUCH}, path),
    ],
    ids=["bytes", "numpy", "safetensors"],
)
def test_a_full_disk_is_said_in_one_line(small_disk: Path, write) -> None:
    out = run_stage(small_disk / "features", manifest(width=1), write_greeting)
    with pytest.raises(ArtifactError, match=r"embed: .*no space left.*free some space") as caught:
        run_stage(out, manifest(width=2), lambda run: write(run.folder / "rows.npy"))
    assert "\n" not in str(caught.value)
    assert names(small_disk) == ["features"]
    assert read_manifest(out).config == {"width": 1}


def test_a_file_size_limit_is_said_in_one_line(tmp_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from llmrec.errors import ArtifactError
from llmrec.stage import Manifest, writing
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
try:
    with writing(Path(sys.argv[1]), Manifest("embed", {})) as run:
        (run.folder / "rows").write_bytes(bytes(1 << 20))
except ArtifactError as error:
    print(error)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "features")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert "no space left" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    assert names(tmp_path) == []
