"""A few races, kills and damages of ``eval/durability.py``, which makes hundreds."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "eval" / "durability.py"


def test_races_kills_and_damage(tmp_path: Path) -> None:
    few = ["--stages", "ingest", "--timings", "4", "--kills", "2", "--ways", "0", "--rounds", "0"]
    places = ["--scratch", str(tmp_path), "--results", str(tmp_path / "found.json")]
    command = [sys.executable, str(SCRIPT), *few, *places]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads((tmp_path / "found.json").read_text())
    assert result["wrong"] == []
    found = result["metrics"]
    assert (found["races"], found["races_wrong"], found["kills_lost"]) == (4, 0, 0)
    assert found["folders_damaged"] == found["folders_noticed"] > 15
    assert found["folders_tried_again"] == found["folders_made_again"] > 4
    assert list(tmp_path.iterdir()) == [tmp_path / "found.json"]
