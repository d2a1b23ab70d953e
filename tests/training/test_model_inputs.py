"""What a run depends on of its base, also where that is a short name."""

from pathlib import Path

import pytest

from llmrec.files import file_hash
from llmrec.llm.layout import LAYOUT
from llmrec.training.model_inputs import is_earlier_model, model_hashes
from llmrec.weights.known import WEIGHTS


def test_a_folder_has_the_hashes_of_its_files(tmp_path: Path) -> None:
    for name in ("config.json", "notes.md"):
        (tmp_path / name).write_text(name)
    assert model_hashes(tmp_path) == {"base/config.json": file_hash(tmp_path / "config.json")}
    assert model_hashes(Path("owner/name")) == {}


def test_a_short_name_wins_over_a_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smollm2-135m").mkdir()
    (tmp_path / "smollm2-135m" / LAYOUT).write_text("{}")
    identity = WEIGHTS["smollm2-135m"].identity
    assert model_hashes(Path("smollm2-135m")) == {"base": identity}
    assert not is_earlier_model("smollm2-135m") and is_earlier_model(tmp_path / "smollm2-135m")
