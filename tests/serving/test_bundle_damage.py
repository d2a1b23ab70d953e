"""A bundle is checked whole when it is opened, and brings what reads words along."""

import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

from llmrec.bench.random_shop import RandomShop
from llmrec.bench.random_texts import write_features, write_text_model
from llmrec.cli import main
from llmrec.content.features.item_encoder import ItemEncoder
from llmrec.content.features.text import EmbedConfig
from llmrec.errors import ArtifactError
from llmrec.serving import build, server
from llmrec.serving.bundle import Bundle
from llmrec.serving.recommender import Recommender


@pytest.fixture(scope="module")
def home(shop: RandomShop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bundle that has everything, and the text model it was made with."""
    home, parts = tmp_path_factory.mktemp("damage"), shop.bundle.parent
    write_text_model(home / "texts")
    config = EmbedConfig(model=str(home / "texts"))
    features = write_features(home / "features", parts / "dataset", 16, config)
    build.run(parts / "dataset", parts / "model", home / "bundle", features, ctr=parts / "ctr")
    return home


@pytest.fixture
def bundle(home: Path, tmp_path: Path) -> Path:
    """A copy, alone in another place."""
    return Path(shutil.copytree(home / "bundle", tmp_path / "bundle"))


def files_of(bundle: Path) -> list[Path]:
    return sorted(path for path in bundle.rglob("*") if path.is_file())


def flip(path: Path, place: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 4
    path.write_bytes(content)


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGE: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "emptied": lambda path: path.write_bytes(b""),
    "halved": halve,
    "flipped at the start": lambda path: flip(path, 0),
    "flipped in the middle": flip,
    "flipped at the end": lambda path: flip(path, 1),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_every_damaged_file_is_named_at_open(bundle: Path, how: str) -> None:
    files = files_of(bundle)
    assert {path.parent.name for path in files} >= {"bundle", "model", "ctr", "text_encoder"}
    for path in files:
        before = path.read_bytes()
        DAMAGE[how](path)
        with pytest.raises(ArtifactError) as caught:
            Bundle(bundle)
        assert str(caught.value).startswith(f"{path}: ")
        assert "again" in str(caught.value) and "\n" not in str(caught.value)
        path.write_bytes(before)
    Bundle(bundle)


def reorder(bundle: Path) -> Path:
    path = bundle / "items.parquet"
    items = pq.read_table(path)
    rows = np.arange(len(items))
    rows[:2] = rows[1::-1]
    pq.write_table(items.take(rows), path)
    return path


def change_weights(bundle: Path) -> Path:
    path = bundle / "model" / "model.safetensors"
    tensors = load_file(path)
    tensors["model.norm.weight"] = tensors["model.norm.weight"] + np.float32(1e-3)
    save_file(tensors, path, metadata={"format": "pt"})
    return path


def swap_networks(bundle: Path) -> Path:
    one, other = sorted((bundle / "ctr").glob("network-*.safetensors"))[:2]
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    return one


def add_an_adapter(bundle: Path) -> Path:
    path = bundle / "model" / "adapter_config.json"  # which transformers would load
    path.write_text("{}")
    return path


CHANGES = [reorder, change_weights, swap_networks, add_an_adapter]


@pytest.mark.parametrize("change", CHANGES)
def test_files_that_are_whole_but_others_are_named(
    bundle: Path, change: Callable[[Path], Path]
) -> None:
    path = change(bundle)
    with pytest.raises(ArtifactError, match=f"{path}: "):
        Bundle(bundle)


def test_large_files_are_checked_while_they_are_opened(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmrec.serving.bundle.MIB", 1000)
    path = bundle / "model" / "model.safetensors"
    before = path.read_bytes()
    for place in (0.0, 0.5):  # what cannot be opened, and what can
        flip(path, place)
        with pytest.raises(ArtifactError, match=f"{path}: is not what was written"):
            Bundle(bundle)
        path.write_bytes(before)
    Bundle(bundle)


def test_a_file_beside_the_parts_is_no_damage(bundle: Path) -> None:
    (bundle / "README.md").write_text("ours")
    (bundle / "model" / ".DS_Store").write_text("")
    assert Bundle(bundle).items


def test_who_does_not_verify_is_warned(
    bundle: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    Recommender.load(bundle)
    assert not caplog.messages
    flip(bundle / "features" / "embeddings.safetensors", 1)
    Recommender.load(bundle, verify=False)
    assert caplog.messages == [
        f"llmrec: warning: {bundle}: files are not verified; damage may go unnoticed"
    ]
    assert main(["recommend", str(bundle), "-n", "1"]) == 2
    assert "embeddings.safetensors: is not what was written" in capsys.readouterr().err
    assert main(["recommend", str(bundle), "-n", "1", "--no-verify"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    halve(bundle / "features" / "embeddings.safetensors")  # sizes are checked all the same
    assert main(["recommend", str(bundle), "-n", "1", "--no-verify"]) == 2


def test_a_damaged_part_is_not_bundled(shop: RandomShop, tmp_path: Path) -> None:
    parts = shop.bundle.parent
    for name in (
        "model/model.safetensors",
        "dataset/items.parquet",
        "ctr/item_features.safetensors",
    ):
        for part in ("dataset", "model", "ctr"):
            shutil.copytree(parts / part, tmp_path / part, dirs_exist_ok=True)
        flip(tmp_path / name)
        with pytest.raises(ArtifactError, match=f"{name}: is not what was written"):
            build.run(
                tmp_path / "dataset", tmp_path / "model", tmp_path / "b", ctr=tmp_path / "ctr"
            )
        assert not (tmp_path / "b").exists()


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every attempt to reach another machine, which fails."""
    asked: list[object] = []

    def refuse(*arguments: object, **_: Any) -> None:
        asked.append(arguments)
        raise OSError("no network here")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return asked


def test_a_bundle_reads_words_with_its_own_model(
    home: Path, bundle: Path, no_network: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Bundle(home / "bundle").text_similarity("thing of kind 7")
    monkeypatch.setattr("llmrec.content.features.item_encoder.locate_model", lambda _: "elsewhere")
    assert np.array_equal(Bundle(bundle).text_similarity("thing of kind 7"), expected)
    assert no_network == []


def test_a_text_model_that_is_not_there_is_said_at_once(
    bundle: Path, no_network: list[object]
) -> None:
    features = bundle / "features"
    with pytest.raises(ArtifactError, match=r"texts.* is not on this machine; run llmrec embed"):
        ItemEncoder(shutil.copytree(features, bundle.parent / "f"), text_encoder=Path("texts"))
    assert no_network == []


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would be served."""
    apps: list[Any] = []
    monkeypatch.setattr("uvicorn.Server.run", lambda self, **_: apps.append(self.config.app))
    return apps


def test_the_service_opens_its_text_model_before_the_first_request(
    bundle: Path, served: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path | None] = []
    real = ItemEncoder.__init__

    def note(self: ItemEncoder, folder: Path, **more: Any) -> None:
        opened.append(more["text_encoder"])
        real(self, folder, **more)

    monkeypatch.setattr(ItemEncoder, "__init__", note)
    server.serve(bundle, port=0)
    assert len(served) == 1 and opened == [bundle / "text_encoder"]


def test_a_service_whose_text_model_cannot_be_opened_does_not_start(
    bundle: Path,
    served: list[Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "llmrec.content.features.item_encoder.weights_hash", lambda _: "of other weights"
    )
    assert main(["serve", str(bundle)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("llmrec: error: ") and "made with other weights" in error
    assert served == []
