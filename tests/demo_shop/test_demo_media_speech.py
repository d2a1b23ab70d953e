"""Speech from text: real, repeatable, and of the words that were given."""

import subprocess
import sys
import wave

import numpy as np
import pytest

from llmrec.demo_shop.catalogue import make_catalogue
from llmrec.demo_shop.kinds import KIND_INDEX, KINDS
from llmrec.demo_shop.media.speech import (
    SAMPLE_RATE,
    VOICES,
    Voice,
    _resample,
    random_voice,
    speak,
    write_wav,
)
from llmrec.demo_shop.media.wording import spoken_description
from llmrec.errors import ConfigError

TEXT = "Here are five red mugs."


def test_speech_has_the_length_and_the_sound_of_speech():
    short, long = speak("Red."), speak("Red mugs, and plates, and bowls, and many teapots.")
    assert short.dtype == np.int16
    assert 0.3 < len(short) / SAMPLE_RATE < 1.5 < len(long) / SAMPLE_RATE < 6
    spectrum = np.abs(np.fft.rfft(long.astype(float))) ** 2
    frequency = np.fft.rfftfreq(len(long), 1 / SAMPLE_RATE)
    assert spectrum[(frequency > 80) & (frequency < 4000)].sum() > 0.8 * spectrum.sum()
    assert np.abs(long).max() > 5000


@pytest.mark.parametrize("name", VOICES)
def test_a_voice_says_the_same_words_the_same_way_whatever_was_said_before(name):
    first = speak(TEXT, Voice(name))
    speak("Something else, by somebody else.", Voice("en-us", rate=175))
    assert np.array_equal(speak(TEXT, Voice(name)), first)


def test_speech_is_the_same_in_another_process_with_other_memory():
    code = (
        "import hashlib; from llmrec.demo_shop.media.speech import Voice, speak;"
        f"print(hashlib.sha256(speak({TEXT!r}, Voice('en', 150, 70)).tobytes()).hexdigest())"
    )
    heard = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"MALLOC_PERTURB_": fill},  # glibc fills fresh memory with it
        ).stdout
        for fill in ("0", "170")
    }
    assert len(heard) == 1


def test_voices_rates_and_pitches_are_heard():
    plain = speak(TEXT)
    assert len(speak(TEXT, Voice(rate=100))) > 1.2 * len(plain)
    low, high = (_pitch(speak("Ah.", Voice(pitch=pitch))) for pitch in (10, 90))
    assert high > 1.3 * low
    assert not np.array_equal(speak(TEXT, Voice("en-gb-scotland")), plain)
    drawn = {random_voice(np.random.default_rng(seed)) for seed in range(40)}
    assert {voice.name for voice in drawn} == set(VOICES)


def _pitch(samples: np.ndarray) -> float:
    """The strongest period between 60 and 300 Hz, by autocorrelation, in Hz."""
    middle = samples[len(samples) // 6 : len(samples) // 6 + 2400].astype(float)
    lags = np.arange(SAMPLE_RATE // 300, SAMPLE_RATE // 60)
    likeness = [(middle[:-lag] * middle[lag:]).sum() / np.linalg.norm(middle[lag:]) for lag in lags]
    return SAMPLE_RATE / lags[int(np.argmax(likeness))]


def test_an_unknown_voice_and_an_empty_text_are_named():
    with pytest.raises(ConfigError, match="no voice 'nobody'"):
        speak(TEXT, Voice("nobody"))
    with pytest.raises(ConfigError, match="nothing to say"):
        speak("")


def test_resampling_keeps_a_tone_and_drops_what_would_fold_back():
    time = np.arange(22_050) / 22_050
    kept, folded = (8000 * np.sin(2 * np.pi * hertz * time) for hertz in (1000, 9000))
    out = _resample((kept + folded).astype(np.int16), 22_050)
    expected = 8000 * np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)
    assert out.dtype == np.int16 and len(out) == 16_000
    assert np.abs(out - expected).max() < 20
    assert len(_resample(np.ones(442, np.int16), 22_050)) == 640  # padded to whole periods


def test_a_wav_holds_the_samples(tmp_path):
    samples = np.array([0, 1, -2, 32767, -32768], dtype=np.int16)
    write_wav(tmp_path / "x.wav", samples)
    with wave.open(str(tmp_path / "x.wav")) as file:
        assert (file.getframerate(), file.getsampwidth(), file.getnchannels()) == (16_000, 2, 1)
        assert np.array_equal(np.frombuffer(file.readframes(9), "<i2"), samples)


def test_sentences_about_items_are_sentences():
    said = set()
    for seed, item in enumerate(make_catalogue(2, 100).items):
        text = spoken_description(item, np.random.default_rng(seed))
        said.add(text)
        assert text[0].isupper() and text.endswith(".") and "{" not in text
        plural = KINDS[KIND_INDEX[item.attributes["category"]]].plural
        words = text.lower().replace(":", "").split()
        assert ("these" in words or "are" in words) == plural, text
    assert len(said) > 95
