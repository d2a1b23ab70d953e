"""``llmrec bench speech``: how well, and how fast, a Whisper writes down what is said.

    llmrec bench speech ../shared/data/speech --model whisper-tiny.en --out eval/results/speech.json

The folder holds recordings and ``transcripts.json``: what is said in each, by its name without
ending. ``wer`` is the word error rate over all words, substitutions, deletions and insertions for
each word of the reference, after openai-whisper's own normalisation of both texts (case,
punctuation, numbers, contractions; Radford et al. 2022, appendix C). ``real_time_factor`` is the
processor time for each second of sound, decoding of the file included. The time by the clock is
beside it: the same on a quiet machine, more where other work takes the processor away.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.bench.checks import result_file
from llmrec.bench.report import print_metrics
from llmrec.content.features.models import WHISPER, weights_hash
from llmrec.content.features.speech_encoder import SpeechEncoder
from llmrec.content.media.audio import AudioWindow, windows
from llmrec.content.media.errors import MediaError
from llmrec.errors import ConfigError, DataError, require
from llmrec.jsonl import read_json
from llmrec.metrics.bootstrap import intervals
from llmrec.metrics.results import write_result
from llmrec.stage import library_versions

TRANSCRIPTS = "transcripts.json"


@dataclass(frozen=True)
class Errors:
    """What was heard wrong in one recording.

    Attributes:
        words: of the reference.
        wrong: substituted, left out and inserted.
    """

    words: int
    wrong: int


@dataclass(frozen=True)
class Clocked:
    """A transcript, and what it cost.

    Attributes:
        seconds: of sound.
        processor: seconds of all threads.
        clock: seconds that passed.
    """

    text: str
    seconds: float
    processor: float
    clock: float


def run(
    data: Path,
    /,
    out: Path,
    *,
    model: str = WHISPER,
    language: str | None = "en",
    threads: int = 1,
    doubtful: tuple[str, ...] = (),
    seed: int = 0,
) -> Path:
    """Measure a Whisper's word error rate and its speed.

    Args:
        data: folder of recordings with their transcripts.
        out: the result file, NAME.json.
        model: a Whisper, by name, file or short name.
        language: of the recordings; None to detect it.
        threads: of torch.
        doubtful: names of recordings whose transcripts are known to be wrong: `wer` counts them,
            `wer_without_doubtful` does not.
        seed: of the bootstrap, over recordings.

    Raises:
        ConfigError: if the model cannot be loaded, or cannot transcribe.
        DataError: if the recordings or their transcripts cannot be used.
        MissingExtraError: without openai-whisper or jiwer.
    """
    result_file(out)
    if threads < 1:
        raise ConfigError(f"--threads: must be 1 or more, got {threads}")
    references = read_references(data)
    unknown = [name for name in doubtful if name not in {name for name, _, _ in references}]
    if unknown:
        raise ConfigError(f"--doubtful: {data / TRANSCRIPTS} has no recording {unknown[0]!r}")
    require("jiwer", "eval")
    torch = require("torch", "media")
    before = torch.get_num_threads()
    started = time.monotonic()
    torch.set_num_threads(threads)
    try:
        encoder = SpeechEncoder(model, device="cpu", precision="float32")
        encoder.with_decoder()
        next_to_nothing = AudioWindow(0.0, np.full(1600, 0.1, np.float32))
        encoder.transcribe([next_to_nothing], language=language)  # the first is slow
        clocked = {name: _transcribed(encoder, path, language) for name, path, _ in references}
    finally:
        torch.set_num_threads(before)
    normalise = normaliser(language)
    errors = {
        name: count_errors(text, clocked[name].text, normalise) for name, _, text in references
    }
    seconds = sum(c.seconds for c in clocked.values())
    kept = [found for name, found in errors.items() if name not in doubtful]
    rate, span = word_error_rate(list(errors.values()), seed)
    metrics, spans = {"wer": rate}, {"wer": span}
    if doubtful and kept:
        name = "wer_without_doubtful"
        metrics[name], spans[name] = word_error_rate(kept, seed)
    metrics |= {
        "real_time_factor": sum(c.processor for c in clocked.values()) / seconds,
        "clock_real_time_factor": sum(c.clock for c in clocked.values()) / seconds,
    }
    print_metrics(metrics, spans)
    return write_result(
        out,
        metrics=metrics,
        dataset=data.name,
        split="all",
        model=model,
        intervals=spans,
        seed=seed,
        seconds=time.monotonic() - started,
        recordings=len(errors),
        words=sum(found.words for found in errors.values()),
        sound_seconds=round(seconds, 2),
        model_hash=weights_hash(model),
        settings={
            "language": language,
            "threads": threads,
            "doubtful": list(doubtful),
            "device": "cpu",
            "beams": 1,
        },
        wrong={name: found.wrong for name, found in errors.items()},
        more_versions=library_versions(("openai-whisper", "jiwer", "av")),
    )


def word_error_rate(errors: Sequence[Errors], seed: int = 0) -> tuple[float, list[float]]:
    """Errors a word of the references, with a 95% interval from a bootstrap of recordings.

    >>> word_error_rate([Errors(6, 3), Errors(2, 1)])
    (0.5, [0.5, 0.5])
    """
    words = [found.words for found in errors]
    rates = np.repeat([found.wrong / found.words for found in errors], words)
    recordings = np.repeat(np.arange(len(errors)), words)
    return float(rates.mean()), intervals({"wer": rates}, recordings, seed=seed)["wer"]


def read_references(data: Path) -> list[tuple[str, Path, str]]:
    """Name, file and text of each recording that has a transcript.

    Raises:
        DataError: naming the file, or the recording that is not there or has no words.
    """
    place = data / TRANSCRIPTS
    try:
        texts = read_json(place)
    except (OSError, ValueError) as error:
        raise DataError(f"{place}: cannot be read ({error})") from None
    if not isinstance(texts, dict) or not texts:
        raise DataError(f"{place}: must be an object of texts by the names of recordings")
    found = []
    for name, text in texts.items():
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{place}: {name!r} has no words")
        paths = [path for path in data.iterdir() if path.stem == name]
        if len(paths) != 1:
            raise DataError(f"{place}: {name!r} has {len(paths)} recordings in {data}, not one")
        found.append((name, paths[0], text))
    return found


def normaliser(language: str | None) -> Callable[[str], str]:
    """openai-whisper's own, of a language."""
    library: Any = require("whisper.normalizers", "media")
    english = language == "en"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves its file of spellings open
        found: Callable[[str], str] = (
            library.EnglishTextNormalizer() if english else library.BasicTextNormalizer()
        )
    return found


def count_errors(reference: str, heard: str, normalise: Callable[[str], str]) -> Errors:
    """Compare a transcript with what was said, word by word.

    >>> count_errors("drop the two", "drop a tue now", str)
    Errors(words=3, wrong=3)
    """
    reference, heard = normalise(reference), normalise(heard)
    found = require("jiwer", "eval").process_words(reference, heard)
    wrong = found.substitutions + found.deletions + found.insertions
    return Errors(len(reference.split()), wrong)


def _transcribed(encoder: SpeechEncoder, path: Path, language: str | None) -> Clocked:
    processor, clock = time.process_time(), time.perf_counter()
    try:
        recording = list(windows(path))
    except MediaError as error:
        raise DataError(f"{path}: {error}") from None
    text = encoder.transcribe(recording, language=language).text
    return Clocked(
        text,
        sum(window.seconds for window in recording),
        time.process_time() - processor,
        time.perf_counter() - clock,
    )
