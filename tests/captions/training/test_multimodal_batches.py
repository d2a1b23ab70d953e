"""Which tokens are learned, and which sources are drawn."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from coloured_shop import picture, tiny_config, write_items, write_schema, write_shop

from llmrec.captions.inputs import prepare_input
from llmrec.captions.prompting import ModelInput, render_prompt
from llmrec.captions.training.batches import IGNORED, Collator, LoadedExample, value_tokens
from llmrec.captions.training.examples import Corpus, draw_sources, make_corpus
from llmrec.captions.training.llava import new_multimodal
from llmrec.captions.training.loader import BatchLoader, ExampleLoader, View, draw_view
from llmrec.captions.training.settings import SourceDropout, ViewAugmentation
from llmrec.content.media.source import MediaSource
from llmrec.content.media.video import Clip
from llmrec.content.schema import Field, Schema, load_schema
from llmrec.data.dataset import Dataset

COLOUR = Schema({"colour": Field(["red", "blue"])})
ANSWER = '{"colour": "red"}'


@pytest.fixture(scope="module")
def processor() -> Any:
    return new_multimodal("llava-nano", clip=None, texts=[ANSWER, "Known: a dress"] * 9)[1]


@pytest.fixture(scope="module")
def video_processor() -> Any:
    texts = [ANSWER, "Known: a dress"] * 9
    return new_multimodal("llava-nano", clip=None, texts=texts, video=True)[1]


def example(processor: Any, given: ModelInput, response: str = ANSWER) -> LoadedExample:
    return LoadedExample(prepare_input(processor, given), "attributes", response)


def film(frames: int) -> Clip:
    return Clip(np.zeros((frames, 20, 20, 3), np.uint8), np.arange(frames, dtype=np.float32))


def test_the_answer_and_its_end_are_learned_and_nothing_else(processor: Any) -> None:
    tokenizer, image = processor.tokenizer, processor.image_token_id
    examples = [
        example(processor, ModelInput(image=picture("red"))),
        example(
            processor, ModelInput(image=picture("blue"), text="a long dress, " * 9), "blue, not red"
        ),
        example(processor, ModelInput(text="words alone")),
    ]
    batch = Collator(processor, COLOUR, 1024).batch(examples)
    assert batch is not None
    ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"]
    assert batch.inputs["pixel_values"].shape == (2, 3, 16, 16)
    for row, one in enumerate(examples):
        learned = batch.labels[row] != IGNORED
        said = batch.labels[row][learned].tolist()
        assert said == [*tokenizer(one.response)["input_ids"], tokenizer.eos_token_id]
        assert tokenizer.decode(said, skip_special_tokens=True) == one.response
        places = learned.nonzero().flatten().tolist()
        assert places == list(range(batch.starts[row], int(mask[row].sum())))
        prompt = render_prompt(processor, "attributes", one.given, COLOUR)
        wide = prompt.replace("<image>", "<image>" * 16)
        assert ids[row, : batch.starts[row]].tolist() == tokenizer(wide)["input_ids"]
        assert not learned[ids[row] == image].any()
        assert not learned[mask[row] == 0].any()
        # before the answer there is exactly what generation starts from
        start = ids[row, : batch.starts[row]].tolist()
        assert tokenizer.decode(start).endswith("ASSISTANT:")
    assert batch.learned == int((batch.labels != IGNORED).sum())


def test_clips_of_one_length_share_a_forward_pass(video_processor: Any) -> None:
    lengths = (1, 3, 1, 0, 3, 1)
    examples = [
        example(video_processor, ModelInput(text="x", video=film(n) if n else None))
        for n in lengths
    ]
    batches = Collator(video_processor, COLOUR, 1024, size=2).batches(examples)
    videos = [b.inputs.get("pixel_values_videos") for b in batches]
    shapes = [None if pixels is None else tuple(pixels.shape[:2]) for pixels in videos]
    assert shapes == [None, (2, 1), (1, 1), (2, 3)]
    assert sum(len(batch.starts) for batch in batches) == len(lengths)


def test_what_the_model_cannot_read_is_left_out_and_counted(processor: Any) -> None:
    short, long = ModelInput(text="x"), ModelInput(text="x " * 100)
    batch = Collator(processor, COLOUR, 120).batch(
        [example(processor, short), example(processor, long)]
    )
    assert batch is not None and batch.too_long == 1 and len(batch.starts) == 1
    assert Collator(processor, COLOUR, 20).batch([example(processor, short)]) is None


@pytest.mark.parametrize(
    "known",
    [
        {"colour": "blue", "kind": "blue grey"},
        {"größe": 'a "wide" one', "stoff": "Wolle/Öl, weiß"},
        {"a b": "}", "c": "\\", "d": ", ", "e": "日本語"},
    ],
)
def test_the_tokens_of_each_value_are_found(processor: Any, known: dict[str, str]) -> None:
    answer = json.dumps(known, ensure_ascii=False)
    places = value_tokens(processor.tokenizer, answer)
    ids = processor.tokenizer(answer)["input_ids"]
    assert list(places) == list(known)
    for name, value in known.items():
        assert places[name] == list(range(places[name][0], places[name][-1] + 1))
        said = processor.tokenizer.decode([ids[place] for place in places[name]])
        assert json.dumps(value, ensure_ascii=False)[1:] in said
        assert f'"{name}"' not in said
    apart = [place for name in known for place in places[name]]
    assert max(Counter(apart).values()) == 1


def test_something_is_always_shown() -> None:
    rng = np.random.default_rng(0)
    has = ["image", "video", "speech", "title"]
    everything = SourceDropout(alone=0.0, image=1.0, video=1.0, speech=1.0, text=1.0)
    drawn = [draw_sources(has, everything, rng) for _ in range(100)]
    assert {len(one) for one in drawn} == {1} and {one[0] for one in drawn} == set(has)
    nothing = SourceDropout(alone=0.0, image=0.0, video=0.0, speech=0.0, text=0.0)
    assert draw_sources(has, nothing, rng) == tuple(has)


def test_any_subset_is_shown_and_a_picture_alone_often() -> None:
    rng = np.random.default_rng(0)
    has = ["image", "video", "speech", "title"]
    given = Counter(draw_sources(has, SourceDropout(), rng) for _ in range(4000))
    assert len(given) == 2**4 - 1
    assert 0.5 < given[("image",)] / 4000 < 0.6


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    home = tmp_path_factory.mktemp("corpus")
    dataset, _ = write_shop(home, 40)
    return open_corpus(dataset, write_schema(home / "s.yaml"))


def open_corpus(dataset: Path, schema: Path, **changes: Any) -> Corpus:
    shop, config = Dataset(dataset), tiny_config(schema, **changes)
    resolved = load_schema(schema).resolved(shop)
    return make_corpus(shop, resolved, config, np.zeros(shop.n_items, bool), {}, seed=1)


def test_an_epoch_asks_about_every_item_once_and_differs_from_the_last(corpus: Corpus) -> None:
    first, second = corpus.epoch(0), corpus.epoch(1)
    assert sorted(e.row for e in first) == corpus.train.tolist() == sorted(e.row for e in second)
    assert [e.row for e in first] != [e.row for e in second]
    assert corpus.epoch(0) == first
    assert not set(corpus.validation) & {e.row for e in first}
    assert len(corpus.validation) == 2 and len(corpus.train) == 38


def test_prompts_of_like_length_share_a_batch_and_answers_do_not_count(tmp_path: Path) -> None:
    rows = [
        {"title": "word " * (50 if n % 2 else 1), "attributes": [f"colour={c}", "pattern=plain"]}
        for n, c in enumerate(["red", "yellow", "red", "black"] * 4)
    ]
    dataset, schema = write_items(tmp_path / "dataset", rows), write_schema(tmp_path / "s.yaml")
    corpus = open_corpus(dataset, schema, validation_share=0.0)
    collator = Collator(None, corpus.schema, 99)
    examples = ExampleLoader(corpus, MediaSource(), None)
    groups = BatchLoader(corpus, examples, collator).groups(0)
    assert [len(group) for group in groups] == [4, 4, 4, 4]
    assert all(len({e.row % 2 for e in group}) == 1 for group in groups)
    drawn = [e.row for e in corpus.epoch(0)]
    for group in groups:  # among prompts of one length, the order is as it was drawn
        places = [drawn.index(e.row) for e in group]
        assert places == sorted(places)


def test_questions_are_drawn_by_their_shares(tmp_path: Path) -> None:
    dataset, _ = write_shop(tmp_path, 60)
    shares = {"attributes": 0.75, "caption": 0.25}
    corpus = open_corpus(dataset, write_schema(tmp_path / "s.yaml"), tasks=shares)
    drawn = Counter(e.task for epoch in range(20) for e in corpus.epoch(epoch))
    assert set(drawn) == set(shares)
    assert abs(drawn["attributes"] / drawn.total() - 0.75) < 0.03


def test_items_without_an_answer_or_anything_to_show_are_counted(tmp_path: Path) -> None:
    rows = [
        {"title": "A red thing", "attributes": ["colour=red", "pattern=plain"]},
        {"title": "No fields", "attributes": ["colour=red"]},
        {"attributes": ["colour=red", "pattern=plain"]},
    ]
    dataset = write_items(tmp_path / "dataset", rows)
    corpus = open_corpus(dataset, write_schema(tmp_path / "s.yaml"))
    assert list(corpus.items) == [0] and len(corpus.train) == 1 and len(corpus.validation) == 0
    assert corpus.counts["without_target"] == 1 and corpus.counts["without_input"] == 1


def test_a_view_is_a_part_of_the_picture_and_keeps_its_colours() -> None:
    rng = np.random.default_rng(0)
    image = picture("red", striped=True, side=40)
    frames = np.stack([np.asarray(image)] * 2)
    both = {(255, 0, 0), (128, 128, 128)}
    for _ in range(20):
        view = draw_view(ViewAugmentation(flip=0.5, crop=0.3), rng)
        part = view.of_image(image)
        assert 28 <= part.width <= 40 and 28 <= part.height <= 40
        assert {*map(tuple, np.asarray(part).reshape(-1, 3).tolist())} == both
        clip = view.of_clip(Clip(frames, np.arange(2.0)))
        np.testing.assert_array_equal(clip.frames[1], np.asarray(part))
    assert View().of_image(image).tobytes() == image.tobytes()
    half = np.zeros((4, 4, 3), np.uint8)
    half[:, 2:] = 9
    from PIL import Image

    turned = np.asarray(View(flip=True).of_image(Image.fromarray(half)))
    assert turned[:, :2].min() == 9 and turned[:, 2:].max() == 0


def test_loss_is_a_token_s_mean_over_the_answers_of_a_step() -> None:
    from llmrec.captions.training.validation import response_loss

    logits = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[IGNORED, IGNORED, 3, 4, IGNORED], [IGNORED, 1, IGNORED, 2, 6]])
    logs = logits.log_softmax(-1)
    places = [(0, 1, 3), (0, 2, 4), (1, 0, 1), (1, 2, 2), (1, 3, 6)]
    expected = -sum(logs[row, place, token] for row, place, token in places)
    torch.testing.assert_close(response_loss(logits, labels), expected)
