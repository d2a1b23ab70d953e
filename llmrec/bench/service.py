"""``llmrec bench service BUNDLE``: how a service of a bundle does under load, and when things fail.

    llmrec bench service runs/demo/models/atomic/bundle --out eval/results/service-load.json

Starts services of its own on free ports, with stores in a scratch folder, and a PostgreSQL where
the machine has one. Client and service share the machine's cores.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmrec.bench import service_kills, service_load
from llmrec.bench.checks import result_file
from llmrec.bench.scratch_postgres import scratch_postgres, why_no_postgres
from llmrec.bench.service_page import page_times
from llmrec.bench.service_process import ServiceProcess, service_process
from llmrec.bench.service_schema import schema_failures
from llmrec.bench.service_soak import soak
from llmrec.config import check_ranges
from llmrec.errors import ConfigError, LlmrecError
from llmrec.metrics.machine import cores
from llmrec.metrics.results import read_result, write_result
from llmrec.stage import read_manifest

Figures = dict[str, float]
PARTS = ("load", "reflect", "page", "soak", "kills", "schema", "vllm")
AA = "aa_false_alarms"


@dataclass(frozen=True)
class ServiceBenchConfig:
    """Settings of the benchmark.

    Attributes:
        parts: of load, reflect, page, soak, kills, schema and vllm.
        seconds: of each measurement of throughput.
        soak_seconds: of mixed load.
        events: that must be reflected.
        kills: of each database.
        cases: of schemathesis.
        visits: of the page in a browser.
        workers: processes of the service whose throughput is measured beside that of one; 0: a
            process a core.
        shop: what the bundle is of, for the result file.

    Raises:
        ConfigError: if a value makes no sense, naming it.
    """

    parts: tuple[str, ...] = PARTS
    seconds: float = 8.0
    soak_seconds: float = 300.0
    events: int = 10_000
    kills: int = 50
    cases: int = 2000
    visits: int = 20
    workers: int = 0
    shop: str = ""

    def __post_init__(self) -> None:
        check_ranges(self, "[1, inf)", "seconds", "events", "kills", "cases", "visits")
        check_ranges(self, "[0, inf)", "workers")
        check_ranges(self, "[8, inf)", "soak_seconds")
        if not self.parts:
            raise ConfigError(f"parts: name some of {', '.join(PARTS)}")
        for part in self.parts:
            if part not in PARTS:
                raise ConfigError(f"parts: {part!r} is none of {', '.join(PARTS)}")


def run(
    bundle: Path,
    /,
    config: ServiceBenchConfig,
    *,
    out: Path,
    experiments: Path | None = None,
) -> None:
    """Measure a service of a bundle.

    Args:
        bundle: folder of llmrec bundle.
        config: what is measured, for how long.
        out: the result file. Figures of parts that are not measured now stay as they are there.
        experiments: result file of the experiments, whose false alarms belong to the figures.
    """
    result_file(out)
    manifest, started = read_manifest(bundle, "bundle"), time.perf_counter()
    known = read_result(out) if out.is_file() else {"metrics": {}, "notes": []}
    figures, notes = Figures(known["metrics"]), list[str](known.get("notes", []))
    if experiments is not None:
        figures[AA] = read_result(experiments)["metrics"][AA]
    with tempfile.TemporaryDirectory(prefix="llmrec-") as scratch:
        bench = ServiceBench(bundle, Path(scratch), config, notes)
        for part in config.parts:
            began = time.perf_counter()
            found = bench.measure(part)
            figures |= found
            print(f"service: {part}: {time.perf_counter() - began:.0f} s", flush=True)
            for name, value in found.items():
                print(f"  {name} {value:.4g}", flush=True)
            write_result(
                out,
                metrics=figures,
                dataset=config.shop,
                model=manifest.fingerprint[:12],
                seconds=time.perf_counter() - started,
                notes=list(dict.fromkeys(notes)),
                command=f"llmrec bench service BUNDLE --out {out}",
            )
    print(f"service: wrote {out}")


class ServiceBench:
    """Measures one part after the other.

    Args:
        scratch: an empty folder.
        notes: what could not be measured is added to it.
    """

    def __init__(
        self, bundle: Path, scratch: Path, config: ServiceBenchConfig, notes: list[str]
    ) -> None:
        self.bundle, self.scratch, self.config, self.notes = bundle, scratch, config, notes
        self.has_click_model = (bundle / "ctr").is_dir()

    def measure(self, part: str) -> Figures:
        """The figures of a part."""
        measures: dict[str, Callable[[], Figures]] = {
            "load": self.load,
            "reflect": self.reflect,
            "page": self.page,
            # a history cache that is full before memory is compared: till then it grows as it may
            "soak": lambda: self._with_service("soak", self._soak, ["--cache-mib", "32"]),
            "kills": self.kills,
            "schema": lambda: self._with_service("schema", self._schema),
            "vllm": self.vllm,
        }
        return measures[part]()

    def load(self) -> Figures:
        """Throughput of each way to rank, and what HTTP costs: of a process a core, and of one."""
        workers = self.config.workers or cores()
        alone = self._with_service("load-alone", self._load)
        found = {f"one_process_{name}": value for name, value in alone.items()}
        flags = ["--workers", str(workers)]
        return found | self._with_service("load", self._load, flags) | {"workers": float(workers)}

    def _load(self, service: ServiceProcess) -> Figures:
        ways: dict[str, dict[str, Any]] = {"history": {"calibrated": False}}
        if self.has_click_model:
            ways["cascade"] = {"calibrated": True}
        found = Figures()
        for name, more in ways.items():
            own = asyncio.run(service_load.throughput(service.url, self.config.seconds, **more))
            found |= {f"{key}@{name}": value for key, value in own.items()}
        added = service_load.overhead_ms(service.url, 300, calibrated=False)
        found["overhead_p50_ms"] = asyncio.run(added)
        for key, worst in (("throughput_64_over_1", min), ("p95_ms@64", max)):
            found[key] = worst(found[f"{key}@{name}"] for name in ways)
        found["healthz_p99_ms"] = max(found[f"healthz_p99_ms@64@{name}"] for name in ways)
        return found

    def reflect(self) -> Figures:
        """Events, each followed by the list that must know it."""

        def measure(service: ServiceProcess) -> Figures:
            events = self.config.events
            return asyncio.run(service_load.reflection(service.url, events, calibrated=False))

        return self._with_service("reflect", measure)

    def page(self) -> Figures:
        """How soon the page shows what a person asked for."""
        visits = self.config.visits
        try:
            return self._with_service("page", lambda service: page_times(service.url, visits))
        except LlmrecError as error:
            self.notes.append(f"page: not measured: {error}")
            return {}

    def kills(self) -> Figures:
        """Killed services of each database."""
        found = {"lost_events": 0.0, "kills": 0.0, "events_acknowledged": 0.0}
        urls = [f"sqlite:///{self.scratch}/kills.sqlite"]
        self._kills_of(urls[0], found)
        if why := why_no_postgres():
            self.notes.append(f"kills: of SQLite alone: {why}")
            return found
        # a socket of its own, whose path has to be short
        with tempfile.TemporaryDirectory(prefix="pg-") as home, scratch_postgres(Path(home)) as url:
            self._kills_of(url, found)
        return found

    def _kills_of(self, url: str, found: Figures) -> None:
        from llmrec.serving.item_table import ItemTable

        items = ItemTable(self.bundle / "items.parquet").item_ids[:500]
        log = self.scratch / "kills.log"
        with service_kills.forks(self.bundle, url, log) as forked:
            sent = asyncio.run(service_kills.kill_often(forked, items, self.config.kills))
        found["lost_events"] += service_kills.wrong_events(url, sent)
        found["kills"] += self.config.kills
        found["events_acknowledged"] += len(sent.acknowledged)

    def vllm(self) -> Figures:
        """Our throughput over that of vLLM's own beam search on the same bundle."""
        from llmrec.bench.service_vllm import ratio

        try:
            return ratio(self.bundle, self.scratch, self.config.seconds)
        except (LlmrecError, ConnectionError) as error:
            self.notes.append(f"vllm: not measured: {error}")
            return {}

    def _soak(self, service: ServiceProcess) -> Figures:
        return asyncio.run(soak(service, self.config.soak_seconds))

    def _schema(self, service: ServiceProcess) -> Figures:
        return schema_failures(service.url, self.config.cases)

    def _with_service(
        self, name: str, measure: Callable[[ServiceProcess], Figures], flags: Sequence[str] = ()
    ) -> Figures:
        with service_process(self.bundle, self.scratch, flags, name) as service:
            return measure(service)
