"""Speech from text with espeak-ng, which ``espeakng-loader`` carries with its voices.

The library is reached through ctypes and speaks one text at a time, from one thread; see
``speak_lib.h`` of espeak-ng for the calls and constants used here.
"""

from __future__ import annotations

import _ctypes  # the only way to unload a library; ctypes itself has none
import ctypes
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.demo_shop.wording import pick
from llmrec.errors import ConfigError, LlmrecError, require

SAMPLE_RATE = 16_000
# Accents of English. Not the variants ("en-us+f2"): espeak-ng reads memory there that it never
# set, so the same words come out a little different from time to time.
VOICES = (
    "en-us",
    "en-us-nyc",
    "en",
    "en-029",
    "en-gb-x-rp",
    "en-gb-scotland",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
)
_SYNCHRONOUS, _NO_EXIT = 2, 0x8000  # AUDIO_OUTPUT_SYNCHRONOUS, espeakINITIALIZE_DONT_EXIT
_UTF8, _END_PAUSE = 1, 0x1000  # espeakCHARS_UTF8, espeakENDPAUSE
_RATE, _PITCH = 1, 3  # espeakRATE, espeakPITCH
_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


@dataclass(frozen=True)
class Voice:
    """Who speaks.

    Attributes:
        name: one of ``VOICES``.
        rate: words a minute.
        pitch: 0 to 100.
    """

    name: str = VOICES[0]
    rate: int = 160
    pitch: int = 50


def random_voice(rng: np.random.Generator) -> Voice:
    """Any of ``VOICES``, in no hurry."""
    name = pick(rng, VOICES)
    return Voice(name, rate=int(rng.integers(140, 181)), pitch=int(rng.integers(25, 86)))


class _Engine:
    """The library, freshly loaded: open it with ``with`` for one text.

    espeak-ng draws random numbers (for the tremble of a voice, for breath) that it goes on with
    from text to text and even over ``espeak_Terminate``. Unloading it starts them again, so
    that the same words by the same voice are the same samples, whatever was spoken before.
    """

    def __enter__(self) -> _Engine:
        loader = require("espeakng_loader", "demo")
        self._library = ctypes.CDLL(loader.get_library_path())
        data = str(loader.get_data_path())
        self.source_rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, data.encode(), _NO_EXIT)
        if self.source_rate <= 0:
            raise LlmrecError(
                f"espeak-ng does not start with the voices in {data}; install espeakng-loader again"
            )
        return self

    def __exit__(self, *error: object) -> None:
        self._library.espeak_Terminate()
        _ctypes.dlclose(self._library._handle)

    def speak(self, text: str, voice: Voice) -> np.ndarray:
        """int16 ``[samples]`` at ``source_rate``."""
        if self._library.espeak_SetVoiceByName(voice.name.encode()) != 0:
            raise ConfigError(f"espeak-ng has no voice {voice.name!r}; one that it has is en-us")
        for parameter, value in ((_RATE, voice.rate), (_PITCH, voice.pitch)):
            self._library.espeak_SetParameter(parameter, value, 0)
        pieces: list[bytes] = []

        @_Callback
        def collect(samples: Any, count: int, events: Any) -> int:
            if samples and count > 0:
                pieces.append(ctypes.string_at(samples, 2 * count))
            return 0

        self._library.espeak_SetSynthCallback(collect)
        encoded = text.encode()
        size = ctypes.c_size_t(len(encoded) + 1)
        self._library.espeak_Synth(encoded, size, 0, 0, 0, _UTF8 | _END_PAUSE, None, None)
        return np.frombuffer(b"".join(pieces), dtype=np.int16)


def speak(text: str, voice: Voice | None = None) -> np.ndarray:
    """A text as speech; the same text and voice give the same samples.

    Returns:
        int16 ``[samples]``, mono, at ``SAMPLE_RATE``.

    Raises:
        MissingExtraError: without espeakng-loader.
        ConfigError: for a voice that espeak-ng does not have, or a text without a word.
    """
    with _Engine() as engine:
        samples = engine.speak(text, voice or Voice())
        rate = engine.source_rate
    if not samples.any():
        raise ConfigError(f"nothing to say in {text!r}; write words")
    return _resample(samples, rate)


def _resample(samples: np.ndarray, rate: int) -> np.ndarray:
    """From ``rate`` to the lower ``SAMPLE_RATE``: the spectrum without what would fold back.

    The ends meet in the transform, which is inaudible: speech begins and ends in silence.
    """
    common = math.gcd(rate, SAMPLE_RATE)
    whole = -(-len(samples) // (rate // common))  # so that both lengths are whole numbers
    before, after = whole * (rate // common), whole * (SAMPLE_RATE // common)
    spectrum = np.fft.rfft(samples.astype(float), before)[: after // 2 + 1]
    resampled = np.fft.irfft(spectrum, after) * (after / before)
    return np.clip(np.round(resampled), -32768, 32767).astype(np.int16)


def write_wav(path: str | Path, samples: np.ndarray) -> None:
    """16-bit mono WAV at ``SAMPLE_RATE``."""
    require("scipy.io.wavfile", "demo").write(path, SAMPLE_RATE, samples.astype("<i2"))
