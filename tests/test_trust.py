"""No model runs code of its own: what loads one says so, and code in a folder stays where it is."""

import ast
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_shop import TinyRun

from llmrec.captions.engine import open_multimodal
from llmrec.captions.training.llava import load_multimodal
from llmrec.content.features.text_encoder import TextEncoder
from llmrec.errors import LlmrecError
from llmrec.generation.load import load_llm
from llmrec.generation.vllm_start import read_config
from llmrec.llm.llama import from_folder
from llmrec.llm.tokenizer import load_tokenizer

ROOT = Path(__file__).parents[1]
# what loads models or processors with these names can bring code along
LOADERS = ("from_pretrained", "from_config", "LLM", "SentenceTransformer", "pipeline")
HARMLESS = ("PeftModel",)  # weights and numbers alone


def loading_calls() -> Iterator[tuple[str, ast.Call]]:
    """Every call in the sources that loads a model, and where it stands."""
    sources = [path for room in ("llmrec", "eval") for path in (ROOT / room).rglob("*.py")]
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                *owner, name = ast.unparse(node.func).split(".")
                if name in LOADERS and not set(owner) & set(HARMLESS):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def test_every_call_that_loads_a_model_refuses_code_of_its_own() -> None:
    calls = list(loading_calls())
    assert len(calls) > 15
    for place, call in calls:
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert given.get("trust_remote_code") == "False", place


def test_nothing_is_unpickled() -> None:
    for path in (ROOT / "llmrec").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "import pickle" not in text and "allow_pickle=True" not in text, path
        assert "weights_only=False" not in text, path


CODE = """
from pathlib import Path
Path(__file__).with_name("ran").touch()
from transformers import LlamaConfig as Config, LlamaForCausalLM as Model, PreTrainedTokenizerFast
class Tokenizer(PreTrainedTokenizerFast): pass
"""
AUTO_MAP = {
    "AutoConfig": "code.Config",
    "AutoModel": "code.Model",
    "AutoModelForCausalLM": "code.Model",
    "AutoModelForImageTextToText": "code.Model",
    "AutoProcessor": "code.Tokenizer",
    "AutoTokenizer": ["code.Tokenizer", "code.Tokenizer"],
}


@pytest.fixture(params=["llama", "a_kind_of_its_own"])
def folder(request: pytest.FixtureRequest, tiny_run: TinyRun, tmp_path: Path) -> Path:
    """A model that brings code, of a kind that transformers has too or does not."""
    folder = Path(shutil.copytree(tiny_run.model("atomic"), tmp_path / "model"))
    (folder / "code.py").write_text(CODE)
    changes: dict[str, Any] = {"auto_map": AUTO_MAP}
    for name in ("config.json", "tokenizer_config.json", "processor_config.json"):
        path = folder / name
        known = json.loads(path.read_text()) if path.is_file() else {}
        known |= changes
        if name == "config.json":
            known["model_type"] = request.param
        path.write_text(json.dumps(known))
    modules = [{"idx": 0, "name": "0", "path": "", "type": "code.Model"}]
    (folder / "modules.json").write_text(json.dumps(modules))  # of sentence-transformers
    return folder


OPENED_BY: list[Callable[[Path], Any]] = [
    load_llm,
    read_config,
    open_multimodal,
    load_multimodal,
    lambda folder: load_tokenizer(str(folder)),
    lambda folder: from_folder(str(folder), 200, torch.float32),
    lambda folder: TextEncoder(str(folder), device="cpu"),
]


@pytest.mark.parametrize("opened", OPENED_BY)
@pytest.mark.filterwarnings("ignore")
def test_code_in_a_folder_does_not_run(
    folder: Path, opened: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object) -> str:
        raise AssertionError("asks whether to run it")

    monkeypatch.setattr("builtins.input", asked)
    monkeypatch.setattr("llmrec.stage.damaged_files", lambda *_: [])
    try:
        opened(folder)
    except LlmrecError as error:
        assert "\n" not in str(error)
    assert not list(folder.parent.rglob("ran"))
