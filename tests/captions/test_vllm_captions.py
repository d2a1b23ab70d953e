"""Captions on a real vLLM: what transformers writes, token by token."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from caption_world import COLOURS, SCHEMA
from PIL import Image

from llmrec.captions.engine import CaptionQuery, MultimodalModel, ResponseFormat, open_multimodal
from llmrec.captions.inputs import prepare_input
from llmrec.captions.prompting import TASKS, ModelInput
from llmrec.captions.run import run
from llmrec.captions.settings import CaptionConfig
from llmrec.captions.table import load_captions, row_of
from llmrec.captions.transformers_engine import TransformersCaptionEngine
from llmrec.captions.vllm_engine import VllmCaptionEngine
from llmrec.errors import ArtifactError
from llmrec.stage import read_manifest

pytestmark = pytest.mark.filterwarnings("ignore")  # vLLM's own, of all kinds

FORMAT = ResponseFormat(SCHEMA, caption_tokens=12, enhance_tokens=40)


@pytest.fixture(scope="module")
def model(nano: Path) -> MultimodalModel:
    return open_multimodal(nano)


@pytest.fixture(scope="module")
def vllm(vllm_here: None, model: MultimodalModel) -> Iterator[VllmCaptionEngine]:
    engine = VllmCaptionEngine(model, FORMAT, batch_size=8)
    yield engine
    engine.close()


def test_both_engines_write_the_same_answers(
    vllm: VllmCaptionEngine, model: MultimodalModel
) -> None:
    given = [ModelInput(image=Image.new("RGB", (40, 30), c), text=f"{c} thing") for c in COLOURS]
    given += [
        ModelInput(text="words"),
        ModelInput(image=Image.new("RGB", (9, 90), "pink"), transcript="pink"),
    ]
    asked = [
        CaptionQuery(task, prepare_input(model.processor, one)) for one in given for task in TASKS
    ]
    ours = TransformersCaptionEngine(model, FORMAT, batch_size=5).generate(asked)
    theirs = vllm.generate(asked)
    assert len({tuple(answer.tokens) for answer in ours[1::3]}) > 1
    for one, two in zip(ours, theirs, strict=True):
        assert one.tokens == two.tokens
        assert one.ended == two.ended
        assert one.logprobs == pytest.approx(two.logprobs, abs=1e-3)
    row = row_of("x", dict(zip(TASKS, theirs[:3], strict=True)), ["p"], model, SCHEMA)
    for name in SCHEMA.names:
        assert row[name] in SCHEMA.values(name)
        assert 0 < row[f"p_{name}"] <= 1


def test_the_command_writes_the_same_table_on_either(
    vllm: VllmCaptionEngine, shop: Path, nano: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmrec.captions import vllm_engine

    monkeypatch.setattr(vllm_engine, "VllmCaptionEngine", lambda *_, **__: vllm)  # started once
    monkeypatch.setattr(VllmCaptionEngine, "close", lambda _: None)
    tables = []
    for engine in ("transformers", "vllm"):
        settings: dict[str, Any] = {"caption_tokens": 12, "enhance_tokens": 40, "engine": engine}
        config = CaptionConfig(schema=str(shop / "fields.yaml"), **settings)
        out = tmp_path / engine
        run(config, shop / "dataset", str(nano), out, media_root=shop / "media")
        assert read_manifest(out).config["engine"] == engine
        tables.append(load_captions(out)[0])
    exact = [name for name in tables[0].column_names if not name.startswith("p_")]
    assert tables[0].select(exact).equals(tables[1].select(exact))


def test_nothing_is_started_for_heads_that_a_cpu_cannot_do(model: MultimodalModel) -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU takes heads of any size")
    config = copy.deepcopy(model.config)
    config.text_config.head_dim = 24
    narrow = MultimodalModel(model.base, config, model.processor)
    with pytest.raises(ArtifactError, match="heads are 24 wide; on a CPU vLLM serves 32, 64"):
        VllmCaptionEngine(narrow, FORMAT)
