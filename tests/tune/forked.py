"""The client of ``fork_server.py``."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml


@dataclass
class Ended:
    """How a run ended: exit statuses and what was printed, by process."""

    statuses: list[int]
    printed: list[str]


@dataclass
class Forks:
    """Asks a server for runs."""

    server: Any
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def start(cls) -> "Forks":
        script = str(Path(__file__).with_name("fork_server.py"))
        environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        server = subprocess.Popen(
            [sys.executable, script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        return cls(server)

    def tune(
        self,
        recipe: dict[str, Any],
        home: Path,
        out: Path,
        *,
        processes: int = 1,
        kill: str | None = None,
        first: dict[str, str] | None = None,
        **environment: str,
    ) -> Ended:
        """``llmrec tune`` on the base ``atomic``."""
        path = out.parent / f"{out.name}.yaml"
        path.write_text(yaml.safe_dump({"tune": recipe}))
        flags = {"--base": home / "atomic", "--dataset": home / "dataset", "--out": out}
        argv = ["tune", str(path), *(str(word) for pair in flags.items() for word in pair)]
        request = {
            "argv": argv,
            "processes": processes,
            "environment": environment,
            "first": first or {},
            "kill": kill,
        }
        self.server.stdin.write(json.dumps(request) + "\n")
        self.server.stdin.flush()
        line = self.server.stdout.readline()
        assert line, "the fork server has died"
        return Ended(**json.loads(line))

    def close(self) -> None:
        self.server.stdin.close()
        self.server.wait()
        self.server.stdout.close()
