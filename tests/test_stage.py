"""A stage's folder appears whole or not at all, whatever interrupts the stage."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edit_manifest import edit_manifest
from safetensors.numpy import save_file

from llmrec import files
from llmrec.errors import ArtifactError, LlmrecError
from llmrec.stage import (
    MANIFEST,
    SCHEMA_VERSION,
    Manifest,
    StageRun,
    checking_hashes,
    folder_hash,
    is_current,
    read_manifest,
    run_stage,
    verify,
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


@pytest.mark.parametrize("text", ["hallo", "hello!"])
def test_the_hash_of_a_folder_follows_its_bytes(tmp_path: Path, text: str) -> None:
    """Also where settings, inputs and counts are the same."""

    def write_other(run: StageRun) -> None:
        write_greeting(run)
        (run.folder / "greeting.txt").write_text(text)

    works = {"one": write_greeting, "other": write_other}
    one, other = (run_stage(tmp_path / name, manifest(), work) for name, work in works.items())
    assert read_manifest(one).fingerprint == read_manifest(other).fingerprint
    assert folder_hash(one) != folder_hash(other)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a readable manifest"),
        ("[]", "no schema_version"),
        ('{"stage": "embed"}', "no schema_version"),
        (
            '{"schema_version": 3, "stage": "embed", "config": {}}',
            "is not what was written .its checksum differs.; remove .* and run the stage",
        ),
        (
            '{"schema_version": 1, "stage": "embed", "config": {}}',
            "written by an earlier llmrec .schema version 1.*run the stage that writes",
        ),
        (
            json.dumps({"schema_version": SCHEMA_VERSION + 1, "stage": "embed", "config": {}}),
            f"schema version {SCHEMA_VERSION + 1}, this llmrec reads up to {SCHEMA_VERSION}; "
            "upgrade llmrec",
        ),
    ],
)
def test_a_manifest_that_cannot_be_used(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(ArtifactError, match=message) as caught:
        read_manifest(tmp_path, "embed")
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": []}, r"manifest\.json\.config: expected a mapping, got \[\]"),
        ({"stage": None}, r"manifest\.json\.stage: expected str, got None"),
        ({"counts": 3}, r"manifest\.json\.counts: expected a mapping"),
        ({"inputs": {"dataset": 1}}, r"manifest\.json\.inputs\.dataset: expected str"),
    ],
)
def test_a_manifest_of_other_types(tmp_path: Path, changes: Any, message: str) -> None:
    out = run_stage(tmp_path / "features", manifest(), write_greeting)
    edit_manifest(out, **changes)
    with pytest.raises(ArtifactError, match=message):
        read_manifest(out)


def test_a_deep_manifest_is_one_line(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text('{"schema_version": 3, "config": ' + "[" * 100_000)
    with pytest.raises(ArtifactError, match="nested deeper than 64 levels") as caught:
        read_manifest(tmp_path)
    assert len(str(caught.value)) < 500


def test_the_stage_of_a_folder_is_checked(tmp_path: Path) -> None:
    out = run_stage(tmp_path / "features", manifest(), write_greeting)
    with pytest.raises(ArtifactError, match="holds the 'embed' stage, expected 'ingest'"):
        read_manifest(out, "ingest")


def test_a_missing_manifest_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not found; run the stage that writes"):
        read_manifest(tmp_path / "features")


def test_fields_of_a_later_release_with_the_same_schema_are_ignored(tmp_path: Path) -> None:
    out = run_stage(tmp_path / "features", manifest(), write_greeting)
    edit_manifest(out, mood="good")
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
    with pytest.raises(LlmrecError, match="not written by llmrec embed; choose another"):
        run_stage(out, manifest(), ran.append)
    assert ran == []  # said before the work, not after it
    assert names(tmp_path) == ["thesis"]


@pytest.mark.parametrize(
    ("stage", "content"),
    [
        ("a web application", '{"name": "shop", "start_url": "/"}'),
        ("another stage", '{"schema_version": 2, "stage": "ingest", "config": {}}'),
        ("its own input", '{"schema_version": 1, "stage": "ingest", "config": {}}'),
        ("no object", "[]"),
    ],
)
def test_only_an_earlier_result_of_the_same_stage_is_replaced(
    tmp_path: Path, stage: str, content: str
) -> None:
    out = tmp_path / "precious"
    out.mkdir()
    (out / MANIFEST).write_text(content)
    (out / "data").write_text("precious")
    with pytest.raises(LlmrecError, match="was not written by llmrec embed; choose another"):
        run_stage(out, manifest(), write_greeting)
    assert names(out) == ["data", MANIFEST], stage
    assert names(tmp_path) == ["precious"]


def test_links_are_not_written_through(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    run_stage(elsewhere, manifest(width=1), write_greeting)
    (tmp_path / "features").symlink_to(elsewhere)
    with pytest.raises(LlmrecError, match="features: is a symbolic link"):
        run_stage(tmp_path / "features", manifest(width=2), write_greeting)
    (tmp_path / ".other.part").symlink_to(elsewhere)
    with pytest.raises(LlmrecError, match=r"\.other\.part: is a link"):
        run_stage(tmp_path / "other", manifest(width=2), write_greeting)
    assert read_manifest(elsewhere).config == {"width": 1}
    assert (elsewhere / "greeting.txt").read_text() == "hello"


def write_two(run: StageRun) -> None:
    (run.folder / "part").mkdir()
    (run.folder / "part" / "rows").write_bytes(b"0123456789")
    (run.folder / "names").write_text("a b c")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("name", ["names", "part/rows", MANIFEST])
@pytest.mark.parametrize(
    "damage", [Path.unlink, lambda path: path.write_bytes(b""), cut], ids=["gone", "empty", "half"]
)
def test_a_damaged_folder_is_named_and_made_again(tmp_path: Path, name: str, damage: Any) -> None:
    out = run_stage(tmp_path / "features", manifest(), write_two)
    damage(out / name)
    with pytest.raises(ArtifactError, match=name) as caught:
        read_manifest(out)
    if name == MANIFEST:  # without it nothing says that llmrec wrote the folder
        assert f"remove {out} and run the stage that writes it again" in str(caught.value)
        shutil.rmtree(out)
    else:
        assert str(caught.value).endswith("; run llmrec embed again with --verify")
    run_stage(out, manifest(), write_two)
    assert (out / "part" / "rows").read_bytes() == b"0123456789"
    verify(out)


def write_nested(run: StageRun) -> None:
    write_two(run)
    run_stage(run.folder / "inner", manifest(), write_two, log=lambda _: None)


def test_a_flipped_bit_is_found_by_verify(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run_stage(tmp_path / "run" / "outer", manifest(), write_nested)
    run_stage(tmp_path / "run" / "other", manifest(), write_two)
    for folder, count in ((out, 5), (out / "inner", 2), (tmp_path / "run", 7)):
        verify(folder)
        last = capsys.readouterr().out.splitlines()[-1]
        assert last == f"{folder}: {count} files as they were written"
    for path in (out / "names", out / "inner" / "part" / "rows", out / "inner" / MANIFEST):
        flip(path)
        read_manifest(out)  # sizes alone do not tell
        for folder in (out, tmp_path / "run"):
            with pytest.raises(ArtifactError, match=f"{path}: is not what .*again with --verify$"):
                verify(folder)
        flip(path)
    verify(tmp_path / "run")


def test_every_damaged_file_is_named(tmp_path: Path) -> None:
    outs = [run_stage(tmp_path / name, manifest(), write_two) for name in ("one", "other")]
    flip(outs[0] / "names")
    flip(outs[0] / "part" / "rows")
    (outs[1] / "names").unlink()
    with pytest.raises(ArtifactError) as caught:
        verify(tmp_path)
    differs, again = "is not what was written (its sha256 differs)", "run llmrec embed again"
    assert str(caught.value) == (
        f"{outs[0] / 'names'}: {differs}; {outs[0] / 'part/rows'}: {differs}; {again} with "
        f"--verify; {outs[1] / 'names'}: is missing; {again} with --verify"
    )


def test_what_is_no_finished_folder_cannot_be_verified(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"nowhere/manifest\.json: not found; run the stage"):
        verify(tmp_path / "nowhere")


def test_a_flipped_bit_of_the_manifest_is_noticed(tmp_path: Path) -> None:
    out = run_stage(tmp_path / "features", manifest(), write_greeting)
    text = (out / MANIFEST).read_text()
    for field in ("seconds", "numpy", "greeting.txt", "checksum", "embed"):
        assert text.count(field) == 1, field
        (out / MANIFEST).write_text(text.replace(field, field[:-1] + "_"))
        with pytest.raises(ArtifactError, match=r"manifest\.json: is not what was written"):
            read_manifest(out)
    (out / MANIFEST).write_text(text + "\n")
    with pytest.raises(ArtifactError, match=r"manifest\.json: is not what was written"):
        read_manifest(out)


def test_flipped_bits_are_no_reason_to_run_again_unless_asked(tmp_path: Path) -> None:
    out = run_stage(tmp_path / "features", manifest(), write_two)
    flip(out / "names")
    lines: list[str] = []
    run_stage(out, manifest(), write_two, log=lines.append)
    with checking_hashes():
        run_stage(out, manifest(), write_two, log=lines.append)
        run_stage(out, manifest(), write_two, log=lines.append)
    assert [" ".join(line.split()[1:3]) for line in lines] == ["up to", f"wrote {out}", "up to"]
    assert (out / "names").read_text() == "a b c"


def test_an_input_that_is_replaced_meanwhile_is_named(tmp_path: Path) -> None:
    source = run_stage(tmp_path / "dataset", Manifest("ingest", {"k": 1}), write_two)
    made_of = Manifest("embed", {}, {"dataset": folder_hash(source)})

    def work(run: StageRun) -> None:
        write_greeting(run)
        run_stage(source, Manifest("ingest", {"k": 2}), write_two)

    with pytest.raises(ArtifactError, match="dataset: another run replaced it while llmrec embed"):
        run_stage(tmp_path / "features", made_of, work, reads=[source])
    assert names(tmp_path) == ["dataset"]
    made_of = Manifest("embed", {}, {"dataset": folder_hash(source)})
    run_stage(tmp_path / "features", made_of, write_greeting, reads=[source, None])
    assert names(tmp_path) == ["dataset", "features"]


def test_files_that_somebody_added_are_not_removed(tmp_path: Path) -> None:
    out = run_stage(tmp_path / "features", manifest(width=1), write_two)
    (out / "part" / "notes.txt").write_text("precious")
    with pytest.raises(LlmrecError, match=r"part/notes\.txt: was not written by llmrec embed"):
        run_stage(out, manifest(width=2), write_two)
    assert (out / "part" / "notes.txt").read_text() == "precious"
    (out / "part" / "notes.txt").rename(out / ".DS_Store")  # of a file manager
    run_stage(out, manifest(width=2), write_two)
    assert names(out) == [MANIFEST, "names", "part"]


def test_all_files_have_the_mode_that_the_user_s_mask_gives(tmp_path: Path) -> None:
    def work(run: StageRun) -> None:
        write_two(run)
        (run.folder / "names").chmod(0o600)
        (run.folder / "part").chmod(0o700)
        (run.folder / "link").symlink_to(elsewhere)

    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("not ours")
    elsewhere.chmod(0o600)
    before = os.umask(0o027)
    try:
        out = run_stage(tmp_path / "features", manifest(), work)
    finally:
        os.umask(before)
    assert elsewhere.stat().st_mode & 0o777 == 0o600
    (out / "link").unlink()
    modes = {path.name: path.stat().st_mode & 0o777 for path in out.rglob("*")}
    assert modes == {"names": 0o640, "part": 0o750, "rows": 0o640, MANIFEST: 0o640}


RACE = """
import sys, time
from pathlib import Path
from llmrec.errors import ArtifactError
from llmrec.stage import Manifest, run_stage

def work(run):
    for number in range(5):
        (run.folder / f"{number}.txt").write_text(sys.argv[2])
        time.sleep(float(sys.argv[3]))

try:
    run_stage(Path(sys.argv[1]), Manifest("embed", {"run": sys.argv[2]}), work)
except ArtifactError as error:
    print(error)
    sys.exit(2)
"""


def test_two_runs_into_one_folder_never_mix(tmp_path: Path) -> None:
    """Whatever the timing: one finishes and the other is refused, or both, one after the other."""
    delays = np.random.default_rng(0).uniform(0, 0.15, (12, 2))
    refused = 0
    for trial, (start, pause) in enumerate(delays):
        out = tmp_path / f"race-{trial}"
        children = []
        for run in ("one", "two"):
            command = [sys.executable, "-c", RACE, str(out), run, str(pause)]
            children.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            time.sleep(start)
        texts = [child.communicate(timeout=60)[0] for child in children]
        codes = [child.returncode for child in children]
        assert 0 in codes and set(codes) <= {0, 2}, texts
        for code, text in zip(codes, texts, strict=True):
            assert code == 0 or "another run writes here (process" in text
        refused += 2 in codes
        found = read_manifest(out)
        written = {(out / f"{number}.txt").read_text() for number in range(5)}
        assert written == {found.config["run"]}
        assert codes.count(0) == 2 or found.config["run"] == ("one", "two")[codes.index(0)]
    assert names(tmp_path) == sorted(f"race-{trial}" for trial in range(len(delays)))
    assert refused  # the timings did meet


def test_a_killed_run_s_lock_does_not_stand_in_the_way(tmp_path: Path) -> None:
    out = tmp_path / "features"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(out), "anew"], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None and child.stdout.readline() == "working\n"
    with pytest.raises(ArtifactError, match=f"another run writes here .process {child.pid}."):
        run_stage(out, Manifest("embed", {}), write_greeting)
    child.kill()
    child.communicate(timeout=20)
    run_stage(out, Manifest("embed", {}), write_greeting)
    assert names(tmp_path) == ["features"]


def test_a_replacement_is_one_step_or_can_be_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where names cannot be exchanged, a kill between the two renames loses nothing."""
    out = run_stage(tmp_path / "features", manifest(width=1), write_greeting)
    monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    renames = []

    def killed(source: Path, target: Path) -> None:
        renames.extend([target] * Path(source).is_dir())  # folders alone
        if len(renames) == 2:
            raise KeyboardInterrupt
        os.rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            run_stage(out, manifest(width=2), write_greeting)
    assert not out.exists()
    with pytest.raises(ZeroDivisionError), writing(out, manifest(width=3)):
        _ = 1 / 0
    assert read_manifest(out).config == {"width": 1}  # the earlier result is back
    run_stage(out, manifest(width=2), write_greeting)
    assert read_manifest(out).config == {"width": 2}
    assert names(tmp_path) == ["features"]


def test_a_kill_right_after_the_replacement_leaves_a_finished_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = run_stage(tmp_path / "features", manifest(width=1), write_greeting)

    unlink = Path.unlink

    def killed(path: Path, missing_ok: bool = False) -> None:
        if path.parent == out:
            raise KeyboardInterrupt(path)
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt, match="fingerprint"):
            run_stage(out, manifest(width=2), write_greeting)
    assert names(out) == [".fingerprint", "greeting.txt", MANIFEST]
    assert read_manifest(out, hashes=True).config == {"width": 2}
    assert is_current(out, manifest(width=2))


def test_an_exchange_leaves_no_moment_without_a_folder(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not files._exchange(tmp_path / "one", tmp_path / "two"):
        pytest.skip("this file system cannot exchange names; the two renames are tested above")
    assert names(tmp_path / "one") == ["two"] and names(tmp_path / "two") == ["one"]


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
