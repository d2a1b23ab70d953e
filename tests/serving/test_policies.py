"""What a shop says of itself goes into its bundle, checked."""

from pathlib import Path

import pytest
from tiny_shop import TinyRun

from llmrec.errors import ConfigError
from llmrec.serving import build
from llmrec.serving.bundle import Bundle
from llmrec.serving.policies import check_policies, read_policies


def test_a_bundle_takes_the_shops_policies(tiny_run: TinyRun, tmp_path: Path) -> None:
    file = tmp_path / "policies.yaml"
    file.write_text("Returns: |\n  Send it back\n  within 30 days.\n")
    home = tiny_run.folder
    out = build.run(home / "dataset", tiny_run.model("atomic"), tmp_path / "bundle", policies=file)
    assert Bundle(out).policies == {"returns": "Send it back within 30 days."}
    assert set(Bundle(tiny_run.bundle("atomic")).policies) >= {"delivery", "returns"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("returns: 30", r"policies\.yaml\.returns: expected a text"),
        ("returns: ''", r"policies\.yaml\.returns: expected a text of 1 to 2000 characters"),
        ("'': days", "is no topic"),
        ("- returns", "expected a mapping"),
    ],
)
def test_policies_that_are_none(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "policies.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_policies(file)
    with pytest.raises(ConfigError, match="at most 50"):
        check_policies({str(n): "x" for n in range(51)})
