"""The vocabulary's layout, time tokens, and one prompt for training and serving."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import domain_ids, random_semantic_ids, semantic_ids

from llmrec.errors import ConfigError
from llmrec.item_ids.item_ids import ItemIds
from llmrec.llm.vocabulary import TIME_FIELDS, HistoryEncoder, Vocabulary, time_values
from llmrec.training.next_item.batches import TrainingBatches
from llmrec.types import Histories

ALL_FIELDS = tuple(TIME_FIELDS)
MINUTE, DAY = 60.0, 86400.0
START = datetime(2020, 1, 3, 15, tzinfo=UTC).timestamp()  # a Friday

IDS = {
    "atomic": ItemIds.atomic(6, spare=3),
    "domain": domain_ids(6, spare=3),
    "semantic": random_semantic_ids(6, (3, 4)),
}
HISTORIES = Histories.from_lists(
    [[0, 3, 1, 4, 4], [2], [], [5, 0, 5]],
    [
        [START, START + 30, START + DAY, START + DAY, START + 90 * DAY],
        [START],
        [],
        [float("nan"), START, float("nan")],
    ],
)


def make_encoder(kind: str, fields: tuple[str, ...], max_items: int = 10) -> HistoryEncoder:
    vocabulary = Vocabulary.of(20, fields, IDS[kind])
    return HistoryEncoder(vocabulary, IDS[kind], [1, 7], max_items)


def one_time(name: str, time: float, previous: float = float("nan")) -> int:
    return int(time_values(name, np.array([time]), np.array([previous]))[0])


@pytest.mark.parametrize("kind", IDS)
@pytest.mark.parametrize("fields", [(), ("month",), ALL_FIELDS])
def test_every_token_has_its_own_id_and_none_is_left_over(
    kind: str, fields: tuple[str, ...]
) -> None:
    vocabulary = Vocabulary.of(20, fields, IDS[kind])
    text = list(range(vocabulary.base_size))
    time = [vocabulary.time_offset + n for n in range(len(vocabulary.time_token_strings()))]
    items = [vocabulary.item_offset + n for n in range(vocabulary.n_item_tokens)]
    assert text + time + items == list(range(vocabulary.size))
    assert vocabulary.n_item_tokens == len(IDS[kind].token_strings())


def test_only_used_item_tokens_are_in_a_level_and_levels_do_not_overlap() -> None:
    atomic = Vocabulary.of(20, (), IDS["atomic"])
    assert atomic.level_range(0) == (0, 6), "spare tokens must not be generated"
    assert atomic.n_item_tokens == 9
    semantic = Vocabulary.of(20, (), IDS["semantic"])
    assert [semantic.level_range(0), semantic.level_range(1)] == [(0, 3), (3, 7)]
    offset = semantic.item_offset
    assert semantic.level_tokens(1) == slice(offset + 3, offset + 7)


def test_an_unknown_time_field_is_named() -> None:
    with pytest.raises(ConfigError, match=r"time_tokens: unknown field 'week'; known: gap, hour"):
        Vocabulary.of(20, ("week",), IDS["atomic"])


@given(st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_calendar_fields_agree_with_datetime(when: datetime) -> None:
    when = when.replace(tzinfo=UTC, microsecond=0)
    time = when.timestamp()
    assert one_time("hour", time) == when.hour + 1
    assert one_time("weekday", time) == when.isoweekday()
    assert one_time("month", time) == when.month


@pytest.mark.parametrize(
    ("gap", "bucket"),
    [
        (0, 1),
        (119, 1),
        (120, 2),
        (4 * MINUTE, 3),
        (2**14 * MINUTE, 15),
        (2**15 * MINUTE - 1, 15),
        (2**15 * MINUTE, 16),
        (3650 * DAY, 16),
        (-5 * DAY, 1),  # a clock that went back
    ],
)
def test_gaps_fall_into_powers_of_two_of_minutes(gap: float, bucket: int) -> None:
    assert one_time("gap", START + gap, START) == bucket


@pytest.mark.parametrize("name", ALL_FIELDS)
def test_unknown_times_are_zero(name: str) -> None:
    assert one_time(name, float("nan"), START) == 0
    if name == "gap":
        assert one_time("gap", START, float("nan")) == 0
    else:
        assert one_time(name, START, float("nan")) > 0


@given(
    st.sampled_from(ALL_FIELDS),
    st.floats(0, 4e9) | st.just(float("nan")),
    st.floats(0, 4e9) | st.just(float("nan")),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_time_values_stay_in_their_field(name: str, time: float, previous: float) -> None:
    assert 0 <= one_time(name, time, previous) < TIME_FIELDS[name]


@pytest.mark.parametrize("kind", IDS)
@pytest.mark.parametrize("fields", [(), ("gap", "month"), ALL_FIELDS])
def test_training_reads_the_very_bytes_that_serving_sends(
    kind: str, fields: tuple[str, ...]
) -> None:
    """For every target: the tokens before it in training are the prompt that asks for it."""
    encoder, ids = make_encoder(kind, fields), IDS[kind]
    batches = TrainingBatches(HISTORIES, encoder, 1000, seed=0)
    batch = batches.batch(batches.sequences)
    rows = batch.tokens.numpy()
    expected = [
        (row, event, user)
        for row, user in enumerate(np.flatnonzero(HISTORIES.lengths()))
        for event in range(len(HISTORIES[user]))
    ]
    assert len(batch.positions[0]) == len(expected)
    for target, (row, event, user) in enumerate(expected):
        items, times = HISTORIES[user], HISTORIES.times(user)
        now = None if np.isnan(times[event]) else float(times[event])
        prompt = encoder.encode(items[:event], times[:event], now)
        at_row, at = divmod(int(batch.positions[0][target]), rows.shape[1])
        assert at_row == row
        assert rows[row, : at + 1].tobytes() == prompt.tobytes()
        codes = [int(codes[target]) for codes in batch.codes]
        assert ids.decode(codes) == items[event]
        tokens = rows[row, at + 1 : at + 1 + ids.levels] - encoder.vocabulary.item_offset
        np.testing.assert_array_equal(tokens, ids.tokens(items[event]))


@pytest.mark.parametrize("fields", [(), ALL_FIELDS])
def test_only_the_newest_items_are_said(fields: tuple[str, ...]) -> None:
    items, times = HISTORIES[0], HISTORIES.times(0)
    now = START + 91 * DAY
    full = make_encoder("semantic", fields).encode(items, times, now)
    encoder = make_encoder("semantic", fields, max_items=2)
    short = encoder.encode(items, times, now)
    kept = 2 * encoder.event_width + len(fields)
    assert len(short) == 2 + kept
    # the gap of the oldest event that is encoded still reaches to the one that is not
    np.testing.assert_array_equal(short[2:], full[len(full) - kept :])
    assert len(short) + encoder.levels == encoder.max_tokens()


@given(
    st.sampled_from(sorted(IDS)),
    st.sampled_from([(), ("gap", "month"), ALL_FIELDS]),
    st.integers(1, 12),
    st.integers(0, 100),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_a_limited_encoder_says_as_many_events_as_fit(
    kind: str, fields: tuple[str, ...], max_items: int, max_tokens: int
) -> None:
    encoder = make_encoder(kind, fields, max_items)
    if make_encoder(kind, fields, 1).max_tokens() > max_tokens:
        with pytest.raises(ConfigError, match=f"a context of {max_tokens} tokens cannot hold one"):
            encoder.limited(max_tokens)
        return
    limited = encoder.limited(max_tokens)
    assert limited.max_tokens() <= max_tokens
    assert limited.max_items <= max_items
    if limited.max_items < max_items:
        assert limited.max_tokens() <= max_tokens < limited.max_tokens() + limited.event_width
    assert encoder.max_items == max_items, "the encoder itself must not change"


@pytest.mark.parametrize("kind", IDS)
@pytest.mark.parametrize("fields", [(), ALL_FIELDS])
def test_a_limited_encoder_drops_the_oldest_events(kind: str, fields: tuple[str, ...]) -> None:
    encoder = make_encoder(kind, fields)
    two = make_encoder(kind, fields, max_items=2)
    items, times = HISTORIES[0], HISTORIES.times(0)
    limited = encoder.limited(two.max_tokens())
    prompt = limited.encode(items, times, START + 91 * DAY)
    assert prompt.tobytes() == two.encode(items, times, START + 91 * DAY).tobytes()
    assert len(prompt) + encoder.levels <= two.max_tokens()
    assert encoder.limited(encoder.max_tokens()) is encoder


def test_ids_of_unequal_length_cannot_be_said_in_a_history() -> None:
    ids = semantic_ids([(0, 1), (2, -1)], (3, 4))
    with pytest.raises(ConfigError, match="need item IDs of equal length"):
        HistoryEncoder(Vocabulary.of(20, (), ids), ids, [1], 5)


def test_an_empty_history_is_the_prefix_and_the_question() -> None:
    nothing = np.zeros(0, dtype=np.int32)
    assert make_encoder("atomic", ()).encode(nothing).tolist() == [1, 7]
    encoder = make_encoder("atomic", ("gap", "weekday"))
    friday = encoder.vocabulary.time_offset + TIME_FIELDS["gap"] + 5
    unknown_gap = encoder.vocabulary.time_offset
    for times in (None, np.zeros(0)):
        assert encoder.encode(nothing, times, START).tolist() == [1, 7, unknown_gap, friday]


def test_without_any_times_every_time_token_is_unknown() -> None:
    encoder = make_encoder("atomic", ("hour", "month"))
    offset, item = encoder.vocabulary.time_offset, encoder.vocabulary.item_offset + 3
    unknown = [offset, offset + TIME_FIELDS["hour"]]
    prompt = encoder.encode(np.array([3]))
    assert prompt.tolist() == [1, 7, *unknown, item, *unknown]


@pytest.mark.parametrize("kind", IDS)
@pytest.mark.parametrize("fields", [(), ("gap", "hour"), ALL_FIELDS])
@pytest.mark.parametrize("max_items", [2, 10])
def test_all_histories_at_once_are_each_for_itself(
    kind: str, fields: tuple[str, ...], max_items: int
) -> None:
    encoder = make_encoder(kind, fields, max_items)
    now = np.array([START + 91 * DAY, float("nan"), START, START + 2 * DAY])
    timed = Histories(HISTORIES.items, HISTORIES.offsets, HISTORIES.timestamps, now)
    for histories in (timed, HISTORIES, Histories(HISTORIES.items, HISTORIES.offsets)):
        prompts = encoder.encode_all(histories)
        for user, (prompt, items) in enumerate(zip(prompts, histories, strict=True)):
            given = None if histories.now is None else float(histories.now[user])
            alone = encoder.encode(items, histories.times(user), given)
            assert prompt.tolist() == alone.tolist()
            assert len(prompt) == encoder.prompt_tokens(len(items))
    assert encoder.encode_all(timed.select([])) == []
