"""The files of ``serving/``: they can be read, and ask for what the service has."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from live_service import an_event, live_service
from tiny_shop import TinyRun

from llmrec.cli import main
from llmrec.serving.bundle import Bundle

SERVING = Path(__file__).parents[2] / "serving"
OF_PROMETHEUS = {"up"}  # which it makes itself
KEYWORDS = {
    "sum", "by", "le", "rate", "ignoring", "group_left", "step", "route", "status", "outcome",
    "kind", "histogram_quantile",
}  # fmt: skip


def queries() -> dict[str, str]:
    """Every query of the dashboard and the alerts, by where it stands."""
    dashboard = json.loads((SERVING / "grafana/dashboards/llmrec.json").read_text())
    found = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in dashboard["panels"]
        for target in panel["targets"]
    }
    alerts = yaml.safe_load((SERVING / "prometheus/alerts.yaml").read_text())
    return found | {rule["alert"]: rule["expr"] for rule in alerts["groups"][0]["rules"]}


def metrics_of(query: str) -> set[str]:
    plain = re.sub(r"\{[^}]*\}|\[[^]]*\]", "", query)
    return set(re.findall(r"[a-z_]{2,}", plain)) - KEYWORDS


def test_every_metric_that_is_asked_for_is_there(tiny_run: TinyRun, tmp_path: Path) -> None:
    bundle = Bundle(tiny_run.bundle("atomic"), cache_mib=8)
    with live_service(bundle, tmp_path / "store.sqlite") as service:
        service.recommend(history=bundle.item_ids[:2])
        service.send(an_event(1, "anna", bundle.item_ids[0]))
        text = service.client.get("/metrics").text
    there = set(re.findall(r"^([a-z_]+)(?:[{ ])", text, re.M)) | OF_PROMETHEUS
    for place, query in queries().items():
        wanted = metrics_of(query)
        assert wanted, place
        assert wanted <= there, f"{place}: {wanted - there}"
    assert metrics_of('rate(llmrec_nothing_total{a="b"}[1m])') - there


def test_routes_that_are_asked_for_are_there(tiny_run: TinyRun, tmp_path: Path) -> None:
    with live_service(tiny_run.bundle("atomic"), tmp_path / "store.sqlite") as service:
        paths = set(service.client.get("/openapi.json").json()["paths"])
    asked = " ".join(queries().values())
    routes = set(re.findall(r'route="([^"]+)"', asked))
    assert routes and routes <= paths


def commands() -> list[list[str]]:
    compose = yaml.safe_load((SERVING / "compose.yaml").read_text())
    given = [one["command"] for one in compose["services"].values() if "command" in one]
    docker = (SERVING / "Dockerfile").read_text()
    (default,) = re.findall(r"^CMD (\[.*?\])$", docker.replace("\\\n", ""), re.M | re.S)
    return [*given, json.loads(default)]


@pytest.mark.parametrize("command", commands(), ids=lambda command: command[0])
def test_commands_have_flags_that_there_are(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = {part.partition("=")[0] for part in command if part.startswith("--")}
    with pytest.raises(SystemExit):
        main([command[0], "--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    assert wanted and wanted <= known, wanted - known


def test_compose_mounts_files_that_there_are() -> None:
    compose = yaml.safe_load((SERVING / "compose.yaml").read_text())
    services: dict[str, Any] = compose["services"]
    mounted = [volume for one in services.values() for volume in one.get("volumes", ())]
    own = [volume.partition(":")[0] for volume in mounted if volume.startswith("./")]
    assert own and all((SERVING / path).exists() for path in own)
    named = {v.partition(":")[0] for v in mounted if not v.startswith((".", "$"))}
    assert named == set(compose["volumes"])
    for service in services.values():
        depends = service.get("depends_on", [])
        assert set(depends) <= set(services)
    for path in SERVING.rglob("*.yaml"):
        assert yaml.safe_load(path.read_text()), path
