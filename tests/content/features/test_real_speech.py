"""The real Whisper, from packages: what is said in recordings of every kind."""

import re
import wave
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("whisper", reason="needs the media extra")

from made_media import sound
from tiny_media import write_media_catalogue

from llmrec.content.features.media import load_media_features, load_transcripts, run
from llmrec.content.features.modalities import EmbedMediaConfig
from llmrec.content.features.speech_encoder import SpeechEncoder
from llmrec.content.media.audio import RATE, windows
from llmrec.content.search.query import transcribe
from llmrec.errors import ConfigError
from llmrec.jsonl import read_jsonl
from llmrec.weights.known import WEIGHTS


def loaded(name: str) -> SpeechEncoder:
    weights = WEIGHTS[name]
    if any(file.find() is None for file in weights.files):
        pytest.skip(f"the weights are not installed: {weights.install_command}")
    return SpeechEncoder(name, device="cpu")


@pytest.fixture(scope="module")
def english() -> SpeechEncoder:
    return loaded("whisper-tiny.en")


@pytest.fixture(scope="module")
def multilingual() -> SpeechEncoder:
    return loaded("whisper-base")


@pytest.fixture(scope="module")
def speech(shared_data: Path) -> Path:
    folder = shared_data / "speech"
    if not folder.is_dir():
        pytest.skip(f"no recordings at {folder}")
    return folder


def words(text: str) -> str:
    return " ".join(re.findall(r"[a-z']+", text.lower()))


def samples(path: Path) -> np.ndarray:
    return np.concatenate([window.samples for window in windows(path)])


def test_a_query_by_voice_is_written_down(english: SpeechEncoder, speech: Path) -> None:
    said = transcribe(str(speech / "spk2_snt4.wav"), "whisper-tiny.en", "cpu")
    assert words(said) == "mend the coat before you go out"


def test_two_minutes_of_8_khz_stereo_by_another_ending(
    english: SpeechEncoder, speech: Path, tmp_path: Path
) -> None:
    one, other = samples(speech / "spk1_snt4.wav"), samples(speech / "spk2_snt2.wav")
    whole = np.zeros(120 * RATE, np.float32)
    whole[2 * RATE : 2 * RATE + len(one)] = one
    whole[110 * RATE : 110 * RATE + len(other)] = other
    stereo = np.stack([whole, whole], axis=1)[::2]
    path = sound(tmp_path / "talk.mp3", stereo, RATE // 2)
    said = english.transcribe(windows(path))
    text = words(said.text)
    assert text.startswith("a thin stripe runs down") and text.endswith("joy there is in living")
    assert said.language == "en" and said.segments[0].start < 5
    assert 100 < said.segments[-1].start < said.segments[-1].end <= 120


def test_transcripts_of_a_catalogue_with_silent_and_empty_recordings(
    english: SpeechEncoder, speech: Path, tmp_path: Path
) -> None:
    root = tmp_path / "media"
    root.mkdir()
    (root / "said.wav").write_bytes((speech / "spk2_snt2.wav").read_bytes())
    sound(root / "silent.wav", np.zeros(2 * RATE))
    with wave.open(str(root / "empty.wav"), "wb") as out:
        out.setparams((1, 2, RATE, 0, "NONE", "none"))
    rows = [{"audio": f"{name}.wav"} for name in ("said", "silent", "empty")]
    dataset = write_media_catalogue(tmp_path / "dataset", rows)
    config = EmbedMediaConfig(
        ("speech",), speech_model="whisper-tiny.en", transcribe=True, device="cpu"
    )
    out = run(config, dataset, tmp_path / "out", media_root=root)
    assert words(load_transcripts(out)["i0"]) == "what joy there is in living"
    assert load_media_features(out)["speech_present"].tolist() == [1, 0, 0]
    skipped = {row["item"]: row["reason"] for row in read_jsonl(out / "skipped.jsonl")}
    assert set(skipped) == {"i1", "i2"} and "silent" in skipped["i1"]


def test_silence_is_no_text(english: SpeechEncoder, tmp_path: Path) -> None:
    silent = sound(tmp_path / "silent.wav", np.zeros(3 * RATE))
    assert english.transcribe(windows(silent)).text == ""


@pytest.mark.parametrize(
    ("voice", "text", "language"),
    [
        ("de", "Guten Tag, ich suche eine rote Lampe für das Wohnzimmer.", "de"),
        ("fr", "Bonjour, je cherche une lampe rouge pour le salon.", "fr"),
    ],
)
def test_the_language_is_heard(
    multilingual: SpeechEncoder, tmp_path: Path, voice: str, text: str, language: str
) -> None:
    pytest.importorskip("espeakng_loader", reason="needs the demo extra")
    from llmrec.demo_shop.media.speech import SAMPLE_RATE, Voice, speak

    spoken = speak(text, Voice(voice)).astype(np.float32) / 32768
    said = multilingual.transcribe(windows(sound(tmp_path / "a.wav", spoken, SAMPLE_RATE)))
    assert said.language == language and said.text


def test_a_name_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^speech_model: 'minilm' is the short name of a text"):
        SpeechEncoder("minilm", device="cpu")
