"""``llmrec bench speech`` on one real recording, and its counting of errors."""

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("whisper", reason="needs the media extra")
pytest.importorskip("jiwer", reason="needs the eval extra")

from llmrec.bench.speech import count_errors, normaliser, run
from llmrec.errors import ConfigError, DataError
from llmrec.weights.known import WEIGHTS


def test_errors_are_counted_word_by_word_after_normalising() -> None:
    normalise = normaliser("en")
    same = count_errors("Mr. Smith won't pay twenty-five dollars", "mister smith will not pay $25!",
                        normalise)  # fmt: skip
    assert same.wrong == 0 and same.words == 6
    # one substituted, one left out, two inserted
    wrong = count_errors("drop the two when you add", "drop a when you you add now", normalise)
    assert wrong.words == 6 and wrong.wrong == 4


def recordings(folder: Path, transcripts: object) -> Path:
    folder.mkdir()
    (folder / "transcripts.json").write_text(json.dumps(transcripts))
    return folder


def test_a_recording_is_measured(shared_data: Path, tmp_path: Path) -> None:
    weights = WEIGHTS["whisper-tiny.en"]
    if weights.files[0].find() is None:
        pytest.skip(f"the weights are not installed: {weights.install_command}")
    data = recordings(tmp_path / "data", {"one": "What joy there is in the living!"})
    shutil.copy(shared_data / "speech" / "spk2_snt2.wav", data / "one.wav")
    result = json.loads(run(data, tmp_path / "speech.json", model="whisper-tiny.en").read_text())
    assert result["metrics"]["wer"] == pytest.approx(1 / 7)
    assert result["intervals"]["wer"] == pytest.approx([1 / 7, 1 / 7])
    assert result["metrics"]["real_time_factor"] > 0
    assert result["wrong"] == {"one": 1} and "wer_without_doubtful" not in result["metrics"]
    assert result["settings"]["threads"] == 1 and "openai-whisper" in result["more_versions"]


@pytest.mark.parametrize(
    ("transcripts", "message"),
    [
        ([], "must be an object"),
        ({"one": " "}, "'one' has no words"),
        ({"two": "words"}, "'two' has 0 recordings"),
    ],
)
def test_recordings_that_cannot_be_used_are_named(
    tmp_path: Path, transcripts: object, message: str
) -> None:
    data = recordings(tmp_path / "data", transcripts)
    with pytest.raises(DataError, match=message):
        run(data, tmp_path / "speech.json")
    with pytest.raises(ConfigError, match="--threads: must be 1 or more"):
        run(data, tmp_path / "speech.json", threads=0)


def test_a_doubtful_recording_that_is_not_there_is_named(tmp_path: Path) -> None:
    data = recordings(tmp_path / "data", {"one": "words"})
    (data / "one.wav").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"--doubtful: .*has no recording 'two'"):
        run(data, tmp_path / "speech.json", doubtful=("two",))
