"""The captioner that llmrec brings along, on pictures of a shop that it has not seen."""

from pathlib import Path

import numpy as np
import pytest

from llmrec.captions.engine import CaptionQuery, MultimodalModel, ResponseFormat, open_multimodal
from llmrec.captions.inputs import prepare_input
from llmrec.captions.prompting import ModelInput
from llmrec.captions.responses import read_fields
from llmrec.captions.transformers_engine import TransformersCaptionEngine
from llmrec.captions.vllm_engine import VllmCaptionEngine
from llmrec.content.schema import load_resolved
from llmrec.demo_shop.catalogue import make_catalogue
from llmrec.demo_shop.media.pictures import make_picture

SHOP, ITEMS = 78, 60  # training/captioner.yaml has 11, training/demo.yaml 0


@pytest.fixture(scope="module")
def model() -> MultimodalModel:
    return open_multimodal("demo-captioner")


@pytest.fixture(scope="module")
def formats(model: MultimodalModel) -> ResponseFormat:
    return ResponseFormat(load_resolved(Path(model.base) / "schema.json"), 40, 40)


@pytest.fixture(scope="module")
def asked(model: MultimodalModel) -> list[CaptionQuery]:
    items = make_catalogue(SHOP, 100).items[:ITEMS]
    rngs = (np.random.default_rng([SHOP, row]) for row in range(ITEMS))
    pictures = [make_picture(item.attributes, rng) for item, rng in zip(items, rngs, strict=True)]
    given = [prepare_input(model.processor, ModelInput(image=picture)) for picture in pictures]
    return [CaptionQuery("attributes", one) for one in given]


def test_its_fields_are_closed_and_right(
    model: MultimodalModel, formats: ResponseFormat, asked: list[CaptionQuery]
) -> None:
    answers = TransformersCaptionEngine(model, formats, batch_size=20).generate(asked)
    assert all(answer.ended for answer in answers)
    texts = [b"".join(model.pieces(answer.tokens)).decode() for answer in answers]
    found = [read_fields(text, formats.schema) for text in texts]
    assert all(list(row) == formats.schema.names for row in found)
    items = make_catalogue(SHOP, 100).items
    for field, least in (("category", 0.9), ("colour", 0.9), ("pattern", 0.8)):
        right = [
            row[field] == one.attributes[field] for row, one in zip(found, items, strict=False)
        ]
        assert np.mean(right) >= least, field


@pytest.mark.filterwarnings("ignore")  # vLLM's own, of all kinds
def test_vllm_writes_what_transformers_writes(
    vllm_here: None, model: MultimodalModel, formats: ResponseFormat, asked: list[CaptionQuery]
) -> None:
    expected = TransformersCaptionEngine(model, formats, batch_size=8).generate(asked[:8])
    engine = VllmCaptionEngine(model, formats, batch_size=8)
    try:
        answers = engine.generate(asked[:8])
    finally:
        engine.close()
    assert len({tuple(answer.tokens) for answer in expected}) > 4
    for one, other in zip(expected, answers, strict=True):
        assert one.tokens == other.tokens
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-3)
