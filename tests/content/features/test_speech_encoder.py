"""Whisper: what is said as vectors and, with a decoder, as words with times."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("whisper", reason="needs the media extra")

import torch
from tiny_media import tiny_whisper

from llmrec.content.features.speech_encoder import SpeechEncoder
from llmrec.content.features.whisper_weights import load_whisper
from llmrec.content.media.audio import RATE, AudioWindow, windows
from llmrec.errors import ConfigError

CLIPS = ("spk1_snt1", "spk1_snt3", "spk2_snt2")  # of one speaker too: not the voice alone


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> SpeechEncoder:
    path = tiny_whisper(tmp_path_factory.mktemp("whisper") / "tiny.pt")
    return SpeechEncoder(str(path), device="cpu")


@pytest.fixture(scope="module")
def real(shared_data: Path) -> SpeechEncoder:
    folder = shared_data / "whisper-tiny-en-encoder"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return SpeechEncoder(str(folder), device="cpu")


def noise(seconds: float, start: float = 0.0, volume: float = 0.1, seed: int = 0) -> AudioWindow:
    samples = np.random.default_rng(seed).normal(0, volume, int(seconds * RATE))
    return AudioWindow(start, samples.astype(np.float32))


def test_vectors_are_unit_rows_whatever_is_beside_them(tiny: SpeechEncoder) -> None:
    recordings = [[noise(1.0)], [], [noise(2.0, seed=1), noise(0.5, 2.0, seed=2)]]
    vectors = tiny.encode(recordings)
    assert vectors.shape == (3, 16) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 0, 1], atol=1e-5)
    np.testing.assert_allclose(tiny.encode(recordings[2:])[0], vectors[2], atol=1e-5)


def test_the_padding_of_a_short_clip_is_not_heard(tiny: SpeechEncoder) -> None:
    mel, states = tiny.prepare(noise(1.0))
    assert mel.shape == (80, 3000) and states == 50
    heard = tiny.whisper.encoder(mel[None])[0, :50].sum(0)
    np.testing.assert_allclose(tiny.sums([(mel, states)])[0], heard.numpy(), rtol=1e-4, atol=1e-4)


def test_a_transcript_has_text_language_and_times(tiny: SpeechEncoder) -> None:
    said = tiny.transcribe([noise(3.0), noise(2.0, 3.0, 1e-5), noise(2.5, 5.0, seed=3)])
    assert said.language and said.text and len(said.segments) >= 2
    assert all(0 <= segment.start <= segment.end <= 7.5 for segment in said.segments)
    starts = [segment.start for segment in said.segments]
    assert starts == sorted(starts) and starts[-1] >= 5
    assert not any(3 <= start < 5 for start in starts)  # that window is silent


def test_a_language_that_is_told_is_kept_and_results_repeat(tiny: SpeechEncoder) -> None:
    first = tiny.transcribe([noise(1.0)], language="de")
    assert first.language == "de" and first == tiny.transcribe([noise(1.0)], language="de")


def test_an_english_model_hears_english(tmp_path: Path) -> None:
    english = SpeechEncoder(str(tiny_whisper(tmp_path / "en.pt", n_vocab=51864)), device="cpu")
    assert english.can_transcribe and english.transcribe([noise(1.0)]).language == "en"


def test_the_real_encoder_tells_utterances_apart(real: SpeechEncoder, shared_data: Path) -> None:
    rng = np.random.default_rng(0)
    clean = [list(windows(shared_data / "speech" / f"{name}.wav")) for name in CLIPS]
    noisy = [
        [
            AudioWindow(w.start, w.samples + rng.normal(0, 0.3 * w.samples.std(), len(w.samples)))
            for w in recording
        ]
        for recording in clean
    ]
    noisy = [[AudioWindow(w.start, w.samples.astype(np.float32)) for w in r] for r in noisy]
    similar = real.encode(clean) @ real.encode(noisy).T
    same, other = np.diag(similar), similar[~np.eye(len(CLIPS), dtype=bool)]
    assert same.min() > other.max() + 0.02


def test_only_a_model_with_a_decoder_writes_down_what_it_hears(real: SpeechEncoder) -> None:
    with pytest.raises(ConfigError, match=r"transcribe: .*only an audio encoder"):
        real.transcribe([noise(1.0)])


def test_the_real_encoder_is_loaded_the_right_way_round(real: SpeechEncoder) -> None:
    with np.load(next(Path(real.model).glob("*.npz"))) as stored:
        weight = torch.from_numpy(stored["block_1/mlp/mlp2/weight"]).float()
        query = torch.from_numpy(stored["block_2/attn/query/weight"]).float()
    assert weight.shape == (1536, 384)  # input-first; torch has it output-first
    torch.testing.assert_close(real.whisper.encoder.blocks[1].mlp[2].weight, weight.T)
    torch.testing.assert_close(real.whisper.encoder.blocks[2].attn.query.weight, query.T)


@pytest.mark.parametrize("content", [None, b"no model"])
def test_a_model_that_is_not_there_is_one_clear_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "whisper.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="speech_model: ") as caught:
        load_whisper(str(path), "cpu")
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"must hold one \*\.cfg, has 0"):
        load_whisper(str(tmp_path), "cpu")
