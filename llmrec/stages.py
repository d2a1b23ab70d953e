"""Every command of llmrec: where its code is and what it makes.

One table feeds the command line and ``llmrec run``. A new stage is one module with a function
and one line here; the function's signature gives its flags (:mod:`llmrec.flags`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Stage:
    """One command.

    Attributes:
        place: ``module:function``.
        summary: one line of ``llmrec --help``.
        section: of a recipe that holds its settings; empty where it takes none.
    """

    place: str
    summary: str
    section: str = ""

    def load(self) -> Callable[..., Any]:
        """Import the module and give its function."""
        module, function = self.place.split(":")
        loaded: Callable[..., Any] = getattr(importlib.import_module(module), function)
        return loaded


STAGES: dict[str, Stage] = {
    "run": Stage("llmrec.pipeline.recipe:main", "run a recipe: every stage below, in order"),
    "data fetch": Stage("llmrec.data.fetch:main", "download a public data set"),
    "data demo": Stage(
        "llmrec.demo_shop:main", "make the demo shop: a catalogue and a click log", "demo_shop"
    ),
    "data pictures": Stage("llmrec.data.picture_folder:main", "a folder of pictures -> dataset"),
    "data cohorts": Stage("llmrec.data.cohorts:main", "part a dataset: older and newest users"),
    "ingest": Stage("llmrec.data.ingest:main", "raw files -> dataset", "ingest"),
    "embed": Stage(
        "llmrec.content.features.command:main", "dataset -> features: one vector per item", "embed"
    ),
    "embed media": Stage(
        "llmrec.content.features.media:main",
        "pictures, videos and speech -> features",
        "embed_media",
    ),
    "caption": Stage(
        "llmrec.captions.run:main", "pictures, videos, words -> captions, closed fields", "caption"
    ),
    "embed captions": Stage(
        "llmrec.captions.categorical:main",
        "captions -> integers that a click model embeds",
        "categories",
    ),
    "search index": Stage(
        "llmrec.content.search.build:main",
        "media features -> index of pictures and words",
        "search",
    ),
    "search": Stage(
        "llmrec.content.search.command:main", "find items by words, a picture or voice"
    ),
    "index": Stage("llmrec.item_ids.index:main", "features -> item IDs the LLM can say", "index"),
    "train": Stage("llmrec.training.next_item.run:main", "dataset and item IDs -> model", "train"),
    "train clip": Stage(
        "llmrec.content.clip.run:main", "pictures and words -> a small CLIP", "clip"
    ),
    "train temporal": Stage(
        "llmrec.content.clip.temporal:main", "videos -> what only motion shows", "temporal"
    ),
    "train multimodal": Stage(
        "llmrec.captions.training.run:main", "CLIP and LLaMA -> LLaVA, in two steps", "multimodal"
    ),
    "train fusion": Stage(
        "llmrec.content.fusion.run:main", "features -> one vector of all modalities", "fusion"
    ),
    "model expand": Stage(
        "llmrec.training.next_item.expand:main", "base model -> base that can say items"
    ),
    "model merge": Stage("llmrec.llm.merge:main", "base and adapter -> model"),
    "tune": Stage(
        "llmrec.training.tune.run:main", "expanded base -> LoRA, QLoRA or full fine-tuning", "tune"
    ),
    "prefer": Stage(
        "llmrec.training.preference.run:main",
        "adapter -> adapter that follows preferences (DPO, GRPO)",
        "prefer",
    ),
    "jobs start": Stage(
        "llmrec.training.jobs.commands:start", "tune or prefer in the background, as a folder"
    ),
    "jobs list": Stage(
        "llmrec.training.jobs.commands:list_jobs", "every job: state, step, loss, time left"
    ),
    "jobs show": Stage("llmrec.training.jobs.commands:show", "all of a job; --follow watches it"),
    "jobs stop": Stage("llmrec.training.jobs.commands:stop", "end a job after its next step"),
    "jobs resume": Stage(
        "llmrec.training.jobs.commands:resume", "go on with a job that did not finish"
    ),
    "ctr": Stage(
        "llmrec.ranking.ctr.run:main",
        "what was shown and clicked -> calibrated probabilities",
        "ctr",
    ),
    "monitor": Stage(
        "llmrec.ranking.monitor.run:main",
        "was it clicked as often as predicted? have inputs drifted?",
    ),
    "bundle": Stage("llmrec.serving.build:main", "model -> one folder that serves"),
    "recommend": Stage("llmrec.serving.recommend:main", "ranked items for a user or a history"),
    "evaluate": Stage("llmrec.bench.evaluate:main", "measure a bundle or a baseline", "evaluate"),
    "serve": Stage("llmrec.serving.app:main", "the OpenAI-compatible API"),
    "bench decode": Stage("llmrec.bench.decode:main", "time the decoder against other engines"),
    "bench tune": Stage("llmrec.bench.tuning:main", "LoRA and QLoRA against full fine-tuning"),
    "bench prefer": Stage("llmrec.bench.preferring:main", "DPO and GRPO against supervised alone"),
    "bench trie": Stage("llmrec.bench.trie:main", "time and size the catalogue's trie"),
    "bench captions": Stage(
        "llmrec.bench.captions:main", "how often the fields of captions are right"
    ),
    "bench temporal": Stage("llmrec.bench.temporal:main", "a temporal encoder against the mean"),
    "bench search": Stage("llmrec.bench.search:main", "do words find the right picture, and back?"),
    "bench fusion": Stage("llmrec.bench.fusion:main", "fused vectors against text alone"),
    "bench ctr": Stage("llmrec.bench.ctr:main", "a click model, its parts and the whole cascade"),
    "bench ctr-latency": Stage("llmrec.bench.ctr_latency:main", "time a click model's answer"),
    "bench cascade-latency": Stage("llmrec.bench.cascade:main", "time the whole cascade"),
    "bench agree": Stage("llmrec.bench.agree:main", "is what is served what was trained?"),
    "doctor": Stage("llmrec.environment:main", "check that every package works on this machine"),
}
