"""Constrained decoding by transformers: a model that knows nothing still gives valid values."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from caption_world import COLOURS, SCHEMA, write_model
from PIL import Image

from llmrec.captions.engine import (
    CaptionQuery,
    Generation,
    MultimodalModel,
    ResponseFormat,
    open_multimodal,
)
from llmrec.captions.inputs import prepare_input
from llmrec.captions.prompting import TASKS, ModelInput
from llmrec.captions.responses import read_fields, spans_of
from llmrec.captions.transformers_engine import (
    GreedyRecorder,
    TransformersCaptionEngine,
    compile_schema,
)
from llmrec.content.media.video import Clip
from llmrec.content.schema import Field, Schema
from llmrec.errors import ArtifactError

FORMAT = ResponseFormat(SCHEMA, caption_tokens=12, enhance_tokens=40)


@pytest.fixture(scope="module")
def model(nano: Path) -> MultimodalModel:
    return open_multimodal(nano)


def all_seen(model: MultimodalModel) -> list[ModelInput]:
    given = [ModelInput(image=Image.new("RGB", (40, 30), c), text=f"{c} x") for c in COLOURS]
    return [
        prepare_input(model.processor, one)
        for one in [*given, ModelInput(text="words"), ModelInput(transcript="a")]
    ]


def asked(model: MultimodalModel) -> list[CaptionQuery]:
    return [CaptionQuery(task, given) for given in all_seen(model) for task in TASKS]


def written(model: MultimodalModel, answer: Generation) -> str:
    return b"".join(model.pieces(answer.tokens)).decode(errors="ignore")


@pytest.fixture(scope="module")
def answers(model: MultimodalModel) -> list[Generation]:
    return TransformersCaptionEngine(model, FORMAT, batch_size=4).generate(asked(model))


def test_no_field_ever_has_a_value_that_the_schema_lacks(
    model: MultimodalModel, answers: list[Generation]
) -> None:
    """Quotes, slashes, other scripts, values that begin others, three hundred values."""
    for answer in answers[1::3]:
        text = written(model, answer)
        assert answer.ended
        values = json.loads(text)
        assert text == json.dumps(values, ensure_ascii=False)  # as training writes it
        assert list(values) == SCHEMA.names
        assert all(value in SCHEMA.values(name) for name, value in values.items())
        assert read_fields(text, SCHEMA) == values


@pytest.mark.parametrize("n_fields", [1, 40])
@pytest.mark.parametrize("value", ["blue", 'the "red"', "ca\u00f1a \U0001f381"])
def test_the_limit_of_closed_fields_has_room_for_the_longest_values(
    value: str, n_fields: int
) -> None:
    schema = Schema({f"f{n}": Field(["x", value]) for n in range(n_fields)})
    text = json.dumps(dict.fromkeys(schema.names, value), ensure_ascii=False)
    with_end = len(text.encode()) + 1  # a token a byte, and the one that ends the response
    assert ResponseFormat(schema, 12, 40).max_tokens("attributes") >= with_end


def test_every_value_can_be_written_and_nothing_else(model: MultimodalModel) -> None:
    xgrammar = pytest.importorskip("xgrammar")
    grammar = compile_schema(model.vocabulary, FORMAT.json_schema("attributes") or "")
    first = {name: SCHEMA.values(name)[0] for name in SCHEMA.names}
    for name in SCHEMA.names:
        for value in SCHEMA.values(name):
            text = json.dumps(first | {name: value}, ensure_ascii=False)
            matcher = xgrammar.GrammarMatcher(grammar, terminate_without_stop_token=True)
            assert matcher.accept_string(text)
            assert matcher.is_terminated()
        matcher = xgrammar.GrammarMatcher(grammar)
        assert not matcher.accept_string(json.dumps(first | {name: "shir"}, ensure_ascii=False))


def test_other_weights_give_valid_values_too(tmp_path: Path, model: MultimodalModel) -> None:
    engine = TransformersCaptionEngine(model, FORMAT)
    said = set()
    for seed in range(4):
        torch.manual_seed(seed)
        for weight in engine._loaded.parameters():
            torch.nn.init.normal_(weight, std=0.3)
        for answer in engine.generate(
            [CaptionQuery("attributes", given) for given in all_seen(model)]
        ):
            values = json.loads(written(model, answer))
            assert all(values[name] in SCHEMA.values(name) for name in SCHEMA.names)
            said.add(tuple(values.values()))
    assert len(said) > 4


def test_what_is_cut_is_known_to_be_cut(model: MultimodalModel, answers: list[Generation]) -> None:
    for answer in answers[::3]:
        assert answer.ended or len(answer.tokens) == FORMAT.caption_tokens
    for answer in answers[2::3]:
        assert len(answer.tokens) <= FORMAT.enhance_tokens
        text = written(model, answer)
        assert answer.ended == text.endswith("}") or len(spans_of(text)) == 3
        assert text.startswith('{"key_terms": [')


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_the_batch_size_changes_nothing(
    model: MultimodalModel, answers: list[Generation], batch_size: int
) -> None:
    other = TransformersCaptionEngine(model, FORMAT, batch_size=batch_size).generate(asked(model))
    assert [one.tokens for one in other] == [one.tokens for one in answers]
    for one, two in zip(other, answers, strict=True):
        assert one.ended == two.ended
        assert one.logprobs == pytest.approx(two.logprobs, abs=1e-4)


def test_probabilities_are_those_of_the_tokens_that_are_left(model: MultimodalModel) -> None:
    grammar = compile_schema(model.vocabulary, '{"enum": ["a", "b"]}')
    recorder = GreedyRecorder(grammar, rows=2)
    scores = torch.zeros(2, model.vocabulary.vocab_size)
    masked = recorder(torch.zeros(2, 1, dtype=torch.long), scores)
    left = torch.isfinite(masked[0])
    assert 0 < left.sum() < 10  # a quote, or a quote and a letter
    assert recorder.logprobs[0][0] == pytest.approx(-float(left.sum().log()))
    assert torch.equal(scores, torch.zeros_like(scores))


def test_a_model_for_videos_is_asked_in_the_same_way(tmp_path: Path) -> None:
    model = open_multimodal(write_model(tmp_path / "video", video=True))
    given = [
        prepare_input(model.processor, ModelInput(image=Image.new("RGB", (30, 40), colour)))
        for colour in ("red", "blue")
    ]
    assert all(one.image is None and one.video is not None for one in given)
    frames = np.zeros((3, 20, 30, 3), np.uint8)
    clip = prepare_input(
        model.processor, ModelInput(video=Clip(frames, np.arange(3, dtype=np.float32)))
    )
    formats = [
        CaptionQuery("attributes", one) for one in [*given, ModelInput(text="words alone"), clip]
    ]
    for answer in TransformersCaptionEngine(model, FORMAT).generate(formats):
        assert len(read_fields(written(model, answer), SCHEMA)) == len(SCHEMA.names)


def test_a_model_without_eyes_is_told_in_one_line(tmp_path: Path) -> None:
    from transformers import LlamaConfig

    LlamaConfig(hidden_size=32).save_pretrained(tmp_path / "llama")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError, match="a 'llama' model, which takes no pictures"):
        open_multimodal(tmp_path / "llama")
    for folder in (tmp_path / "empty", tmp_path / "none"):
        with pytest.raises(ArtifactError, match="not a multimodal model") as error:
            open_multimodal(folder)
        assert "\n" not in str(error.value)
