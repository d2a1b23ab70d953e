"""Every task's examples: what they say, and what they must not know."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tiny_expanded import corpus_of, decoded, same, write_catalogue, write_expanded

from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.generation.llm import make_llm
from llmrec.item_ids.item_ids import ItemIds
from llmrec.training.tasks import catalogue_tasks, history_tasks
from llmrec.training.tasks.corpus import TaskCorpus
from llmrec.training.tasks.mixture import TASKS
from llmrec.training.tasks.names import TASK_NAMES
from llmrec.training.tasks.queries import Queries
from llmrec.training.tasks.writer import TaskExample
from llmrec.types import Histories


def examples(
    corpus: TaskCorpus, task: str, count: int = 40, seed: int = 0
) -> list[tuple[int, TaskExample]]:
    """Rows of a task and their examples."""
    rows = TASKS[task].rows(corpus, task)[:count]
    made = [
        TASKS[task].example(corpus, int(row), np.random.default_rng([seed, number]))
        for number, row in enumerate(rows)
    ]
    return list(zip(rows.tolist(), made, strict=True))


def test_recipes_know_exactly_the_tasks_there_are() -> None:
    assert tuple(TASKS) == TASK_NAMES


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("world", ["corpus", "timed"])
def test_an_example_depends_on_its_row_and_seed_alone(
    task: str, world: str, request: pytest.FixtureRequest
) -> None:
    corpus = request.getfixturevalue(world)
    once, again = examples(corpus, task), examples(corpus, task)
    assert len(once) >= 30
    for (_, one), (_, other) in zip(once, again, strict=True):
        assert same(one, other)
        assert one.task == task and len(one.completion_ids) > 0
        assert one.prompt_ids.dtype == one.completion_ids.dtype == np.int64
        assert one.prompt_ids[0] == corpus.writer.start
        assert (one.completion_ids[-1] == corpus.writer.end) == (
            task not in ("next_item", "history")
        )


@pytest.mark.parametrize("world", ["corpus", "timed"])
def test_history_has_every_prompt_of_next_item_in_it(
    world: str, request: pytest.FixtureRequest
) -> None:
    """Up to any of its events it is what serving reads before that event."""
    corpus = request.getfixturevalue(world)
    encoder = corpus.writer.encoder
    fields = len(encoder.vocabulary.time_fields)
    for user, example in examples(corpus, "history"):
        items = corpus.histories[user][-encoder.max_items :]
        ids = np.append(example.prompt_ids, example.completion_ids)
        assert len(ids) == len(encoder.prefix) + len(items) * encoder.event_width
        for event in range(1, len(items)):
            known = encoder.prompt_tokens(event) - fields
            answer = ids[known + fields : known + encoder.event_width]
            assert answer.tolist() == corpus.writer.items([items[event]]).tolist()
            if not fields:
                assert ids[:known].tolist() == encoder.encode(items[:event]).tolist()


def test_history_of_a_share_of_the_users(corpus: TaskCorpus) -> None:
    few = TaskCorpus(corpus.dataset, corpus.writer, user_share=0.1)
    rows = TASKS["history"].rows(few, "history")
    drawn = np.flatnonzero(corpus.dataset.is_drawn(0.1))
    assert len(rows) > 0 and set(rows.tolist()) <= set(drawn.tolist())
    assert few.popularity.sum() < corpus.popularity.sum()


def test_what_comes_next_is_of_the_domain_and_what_was_before_of_any(tmp_path: Path) -> None:
    domains = [("food", "kitchen")[item % 2] for item in range(40)]
    dataset = Dataset(write_catalogue(tmp_path / "data", 40, domain=domains))
    base = write_expanded(tmp_path / "base", ItemIds.atomic(40))
    writer = corpus_of(dataset.folder, base).writer
    corpus = TaskCorpus(dataset, writer, domain="kitchen")
    rows = TASKS["next_item"].rows(corpus, "next_item")
    everything = TaskCorpus(dataset, writer).events_with_history
    kept = [row for row in everything if corpus.histories.items[row] % 2]
    assert rows.tolist() == kept and 0 < len(kept) < len(everything)
    assert any((corpus.event(row)[0] % 2 == 0).any() for row in rows)
    with pytest.raises(ConfigError, match="domain: 'garden' is not one of food, kitchen"):
        TASKS["next_item"].rows(TaskCorpus(dataset, writer, domain="garden"), "next_item")


@pytest.mark.parametrize("world", ["corpus", "timed"])
def test_next_item_says_what_serving_says(world: str, request: pytest.FixtureRequest) -> None:
    """The prompt is, token for token, what the recommender makes of the same history."""
    from tiny_models import tiny_llama

    corpus = request.getfixturevalue(world)
    encoder = corpus.writer.encoder
    model = tiny_llama(encoder.vocabulary.size)
    ids = corpus.writer.encoder.item_tokens
    from llmrec.item_ids.item_ids import ItemIds

    item_ids = (
        ItemIds.atomic(corpus.n_items, spare=4)
        if encoder.levels == 1
        else ItemIds(
            "semantic",
            (ids - encoder.vocabulary.item_offset - [0, 7]).astype(np.int32),
            (7, 8),
            np.zeros((15, 0), np.float32),
        )
    )
    served = make_llm(model, encoder, item_ids)
    timeless = 0
    for row, example in examples(corpus, "next_item", 200):
        items, times, target, now = corpus.event(row)
        with_times = Histories.from_lists(
            [items.tolist()],
            None if times is None else [times.tolist()],
            None if now is None else [now],
        )
        (prompt,) = served.prompts(with_times)
        if not np.array_equal(prompt, example.prompt_ids):
            (prompt,) = served.prompts(Histories.from_lists([items.tolist()]))
            timeless += 1
        assert example.prompt_ids.tobytes() == prompt.tobytes()
        np.testing.assert_array_equal(example.completion_ids, encoder.item_tokens[target])
    assert (timeless > 0) == (world == "timed")
    assert timeless < 0.35 * 200


@pytest.mark.parametrize("task", ["next_item", "rank", "taste"])
def test_held_out_events_are_never_seen(corpus: TaskCorpus, task: str) -> None:
    """A user's last two events are no part of any example: rows stop before them."""
    dataset = corpus.dataset
    train = dataset.train_histories()
    if task == "taste":
        used = {tuple(corpus.histories[row]) for row in TASKS[task].rows(corpus, task)}
        assert used <= {tuple(history) for history in train}
        return
    starts = np.concatenate([[0], np.cumsum([len(dataset.history(u)) for u in range(60)])])
    users = np.searchsorted(train.offsets, TASKS[task].rows(corpus, task), side="right") - 1
    for user, row in zip(users, TASKS[task].rows(corpus, task), strict=True):
        items, _, target, _ = corpus.event(int(row))
        whole = dataset.history(user)
        assert len(items) + 1 <= len(whole) - 2
        assert [*items, target] == whole[: len(items) + 1].tolist()
    assert starts[-1] == len(train.items) + 2 * 60


def test_text_to_item_names_the_item_of_the_words(corpus: TaskCorpus) -> None:
    described = 0
    for row, example in examples(corpus, "text_to_item"):
        title, description = corpus.text("title", row), corpus.text("description", row)
        prompt = decoded(corpus, example.prompt_ids)
        assert title in prompt or (description and description in prompt)
        described += title not in prompt
        assert decoded(corpus, example.completion_ids) == f"<item_{row}></s>"
    assert described > 5


def test_item_to_text_is_the_title(corpus: TaskCorpus) -> None:
    for row, example in examples(corpus, "item_to_text"):
        assert f"<item_{row}>" in decoded(corpus, example.prompt_ids)
        assert decoded(corpus, example.completion_ids) == f"{corpus.text('title', row)}</s>"


def test_a_title_that_spells_an_item_says_only_its_letters(corpus: TaskCorpus) -> None:
    first = corpus.writer.encoder.vocabulary.time_offset
    for words in ("a <item_3> and </s>", "<item_0>"):
        ids = corpus.writer.words(words)
        assert ids.max() < first and corpus.writer.end not in ids
        assert decoded(corpus, ids) == words
        prompt = corpus.writer.prompt("text_to_item", words=words)
        assert (prompt >= first).sum() == 0
    # and the tokenizer reads item tokens as before
    assert len(corpus.writer.tokenizer.encode("<item_3>", add_special_tokens=False)) == 1


def test_taste_names_what_occurs_most(corpus: TaskCorpus) -> None:
    # things of items 0, 5, 10 are shoes, 1 is a bag; brands Acme, "", Globex, Globex
    words = history_tasks.taste_words(corpus, np.array([0, 5, 10, 1]))
    assert words == "Mostly interested in Clothing, shoe and bag. Often chooses Globex and Acme."
    assert history_tasks.taste_words(corpus, np.array([2])) == (
        "Mostly interested in Clothing and hat."
    )


def test_search_answers_with_the_best_known_matches() -> None:
    titles = ["Red shoe", "red bag", "blue shoe", None, "RED shoe (new)"]
    categories = [["A"], ["A", "B"], None, ["B"], ["A"]]
    queries = Queries(titles, categories, np.array([1, 5, 9, 7, 4]))
    assert queries.matching("shoe").tolist() == [2, 4, 0]
    assert queries.matching("red shoe").tolist() == [4, 0]
    assert queries.matching("red").tolist() == [1, 4, 0]
    assert queries.matching("purple").tolist() == []
    draws = [queries.sample(item, np.random.default_rng(n)) for item in range(5) for n in range(20)]
    assert {"A", "B", "shoe", "red shoe", "new"} <= {query for query, _ in draws}
    assert dict((q, tuple(i)) for q, i in draws)["A"] == (1, 4, 0)
    assert queries.sample(3, np.random.default_rng(0))[0] == "B"  # it has no title
    assert all(len(items) for _, items in draws)


def test_a_query_finds_items_that_match_it(corpus: TaskCorpus) -> None:
    offset = corpus.writer.encoder.vocabulary.item_offset
    for _, example in examples(corpus, "search"):
        query = decoded(corpus, example.prompt_ids).split("query: ")[1].strip()
        found = example.completion_ids[:-1] - offset
        assert 1 <= len(found) <= 3 and (np.diff(corpus.popularity[found]) <= 0).all()
        for item in found.tolist():
            title = corpus.text("title", item).lower().split()
            categories = corpus.value("categories", item)
            assert query in categories or set(query.split()) <= set(title)


def test_rank_offers_the_item_taken_among_items_not_known(corpus: TaskCorpus) -> None:
    offset, places = corpus.writer.encoder.vocabulary.item_offset, []
    for row, example in examples(corpus, "rank", 80):
        items, _, target, _ = corpus.event(row)
        tokens = example.prompt_ids[example.prompt_ids >= offset] - offset
        history, candidates = tokens[:-10], tokens[-10:]
        np.testing.assert_array_equal(history, items[-8:])
        assert len(set(candidates.tolist())) == 10
        assert set(candidates.tolist()) & {*items.tolist(), target} == {target}
        assert example.completion_ids.tolist() == [target + offset, corpus.writer.end]
        places.append(candidates.tolist().index(target))
    assert len(set(places)) > 5, "the place must not give the answer away"


def test_negatives_run_out_in_a_tiny_catalogue() -> None:
    found = history_tasks.negatives(4, np.array([1, 3]), 9, np.random.default_rng(0))
    assert sorted(found.tolist()) == [0, 2]


def test_tool_calls_are_json_that_the_service_takes(corpus: TaskCorpus) -> None:
    from llmrec.serving.filters import CatalogFilter

    shapes = set()
    for row, example in examples(corpus, "tool_call"):
        turn = decoded(corpus, example.prompt_ids)
        call = json.loads(decoded(corpus, example.completion_ids).removesuffix("</s>"))
        assert call["name"] == "recommend"
        arguments = call["arguments"]
        shapes.add(tuple(sorted(arguments)))
        where = CatalogFilter.of_dict(arguments.get("where", {}))
        if where.price_max is not None:
            assert 0 <= where.price_max - corpus.value("price", row) < 1
            assert f"at most {where.price_max:g}." in turn
        for said_in_turn in (arguments.get("query"), *where.categories):
            assert said_in_turn is None or said_in_turn in turn
        assert arguments.get("query") or where.categories
    assert shapes == {("query",), ("n", "query"), ("where",), ("query", "where")}


class Bare(Dataset):
    """A dataset whose catalogue lacks columns."""

    def __init__(self, dataset: Dataset, columns: list[str]) -> None:
        super().__init__(dataset.folder)
        self.__dict__["items"] = dataset.items.select(columns)


@pytest.mark.parametrize(
    ("task", "columns", "field"),
    [
        ("text_to_item", ["item_id"], "title"),
        ("item_to_text", ["item_id", "categories"], "title"),
        ("taste", ["item_id", "title"], "categories or brand"),
        ("search", ["item_id", "brand"], "title or categories"),
        ("tool_call", ["item_id"], "title"),
    ],
)
def test_missing_data_is_named(
    corpus: TaskCorpus, task: str, columns: list[str], field: str
) -> None:
    from llmrec.errors import ConfigError

    bare = TaskCorpus(Bare(corpus.dataset, columns), corpus.writer)
    with pytest.raises(ConfigError, match=rf"tasks\.{task}: no item .* has {field}; ingest"):
        TASKS[task].rows(bare, task)


def test_empty_fields_count_as_missing(corpus: TaskCorpus) -> None:
    bare = Bare(corpus.dataset, ["item_id", "title", "price"])
    titles = pa.array([" ", None, "x"] + [""] * 37)
    bare.__dict__["items"] = bare.items.set_column(1, "title", titles)
    emptied = TaskCorpus(bare, corpus.writer)
    assert catalogue_tasks.titled(emptied, "search").tolist() == [2]
    assert emptied.has_value("price").sum() == 30
    # what there is suffices: no categories, no description
    for task in ("text_to_item", "item_to_text", "search", "tool_call"):
        assert examples(emptied, task)[0][0] == 2


def test_long_examples_keep_both_ends_of_the_prompt_and_the_start_of_the_answer() -> None:
    example = TaskExample("x", np.arange(20), np.arange(100, 109))
    assert example.fitted(29) is example
    cut = example.fitted(10)
    assert cut.prompt_ids.tolist() == [0, 1, 2, 18, 19]
    assert cut.completion_ids.tolist() == [100, 101, 102, 103, 104]
    short = TaskExample("x", np.arange(3), np.arange(100, 109)).fitted(10)
    assert short.prompt_ids.tolist() == [0, 1, 2]
