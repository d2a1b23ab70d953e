"""Every command of llmrec: where its code is and what it makes.

One table feeds the command line and ``llmrec run``. A new stage is one module with a function
and one line here; the function's signature gives its flags (:mod:`llmrec.flags`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Stage:
    """One command.

    Attributes:
        entry_point: ``module:function``.
        summary: one line of ``llmrec --help``.
        section: of a recipe that holds its settings, such as ``media.clip``; ``llmrec run`` runs
            the stage where the recipe has it, in the order of the table, and after the models if it
            takes one. Empty for a command that takes no recipe.
        out: its folder within a run's folder, ending in ``/``.
        inputs: in a run, a parameter, or a setting as ``config.NAME``, and where its value
            comes from: the folder of another stage (or a file in it) or a key of the recipe;
            with commas, the first that is there. ``*`` stands for the name of the model that a
            section ``models.*`` is of.
        options: keys of the section that ``llmrec run`` reads, beside the stage's settings.
    """

    entry_point: str
    summary: str
    section: str = ""
    out: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    options: Sequence[str] = ()

    @property
    def in_run(self) -> bool:
        """Whether a recipe of ``llmrec run`` may have the stage."""
        return bool(self.section) and bool(self.out or self.inputs)

    def load(self) -> Callable[..., Any]:
        """Import the module and give its function."""
        module, function = self.entry_point.split(":")
        loaded: Callable[..., Any] = getattr(importlib.import_module(module), function)
        return loaded


STAGES: dict[str, Stage] = {
    "run": Stage("llmrec.pipeline.run:run", "run a recipe: every stage below, in order"),
    "data fetch": Stage("llmrec.data.fetch:fetch", "download a public data set"),
    "data demo": Stage(
        "llmrec.demo_shop:run",
        "make the demo shop: a catalogue and a click log",
        "demo_shop",
        "raw/",
        {},
    ),
    "data pictures": Stage("llmrec.data.picture_folder:run", "a folder of pictures -> dataset"),
    "data cohorts": Stage("llmrec.data.cohorts:run", "split a dataset: older and newest users"),
    "models list": Stage(
        "llmrec.weights.command:list_models", "pretrained weights with short names"
    ),
    "models get": Stage("llmrec.weights.command:get_model", "find, check and convert weights"),
    "models path": Stage("llmrec.weights.command:show_path", "where weights are"),
    "ingest": Stage("llmrec.data.ingest:run", "raw files -> dataset", "ingest", "dataset/", {}),
    "enhance": Stage(
        "llmrec.captions.enhance:run",
        "key terms, summary and buyers of each item, by a language model",
        "enhance",
        "enhanced/",
        {"dataset": "dataset/"},
    ),
    "embed": Stage(
        "llmrec.content.embed:run",
        "dataset -> features: one vector per item",
        "embed",
        "features/",
        {"dataset": "dataset/", "enhanced": "enhanced/"},
    ),
    "train clip": Stage(
        "llmrec.content.clip.run:run",
        "pictures and words -> a CLIP",
        "media.clip",
        "clip/",
        {"dataset": "dataset/", "media_root": "media.root", "leave_out": "media.leave_out"},
    ),
    "train temporal": Stage(
        "llmrec.content.clip.temporal:run",
        "videos -> a temporal encoder of their frames",
        "media.temporal",
        "temporal/",
        {
            "dataset": "dataset/",
            "media_root": "media.root",
            "leave_out": "media.leave_out",
            "config.image_model": "clip/",
        },
    ),
    "embed media": Stage(
        "llmrec.content.embed:embed_media",
        "pictures, videos and speech -> features",
        "media.embed",
        "media_features/",
        {
            "dataset": "dataset/",
            "media_root": "media.root",
            "config.image_model": "clip/",
            "config.temporal": "temporal/temporal.safetensors",
        },
    ),
    "train multimodal": Stage(
        "llmrec.captions.training.run:run",
        "CLIP and LLaMA -> LLaVA, in two phases",
        "media.multimodal",
        "multimodal/",
        {
            "dataset": "dataset/",
            "media_root": "media.root",
            "leave_out": "media.leave_out",
            "media": "media_features/",
            "config.clip": "clip/",
        },
    ),
    "caption": Stage(
        "llmrec.captions.run:run",
        "pictures, videos, words -> captions, closed fields",
        "media.caption",
        "captions/",
        {
            "dataset": "dataset/",
            "media_root": "media.root",
            "model": "media.model, multimodal/",
            "media": "media_features/",
            "items": "media.caption_items",
        },
    ),
    "intent": Stage(
        "llmrec.captions.intent.run:run", "queries, reviews, talks -> what customers mean"
    ),
    "intent examples": Stage(
        "llmrec.captions.intent.run:examples", "texts whose meaning is known -> examples for tune"
    ),
    "assistant examples": Stage(
        "llmrec.serving.assistant.dialogues.examples:run",
        "catalogue and ways to say things -> chat examples of tool calls for tune",
    ),
    "embed captions": Stage(
        "llmrec.captions.categorical:run",
        "captions -> categorical features: integers of a vocabulary",
        "media.categories",
        "categorical_features/",
        {"captions": "captions/"},
    ),
    "train fusion": Stage(
        "llmrec.content.fusion.run:run",
        "features -> one vector of all modalities",
        "media.fusion",
        "fusion/",
        {"dataset": "dataset/", "features": "features/", "media": "media_features/"},
    ),
    "train engagement": Stage(
        "llmrec.ranking.ctr.engagement:run",
        "how much of each video was watched -> how much of any will be",
        "media.engagement",
        "engagement/",
        {"dataset": "dataset/", "media": "media_features/"},
    ),
    "search index": Stage(
        "llmrec.content.search.build:run",
        "media features -> index of pictures and words",
        "media.search",
        "search_index/",
        {"dataset": "dataset/", "media": "media_features/"},
    ),
    "search": Stage(
        "llmrec.content.search.command:search", "find items by words, a picture or voice"
    ),
    "index": Stage(
        "llmrec.item_ids.index:run",
        "features -> item IDs the LLM can generate",
        "models.*.index",
        "models/*/item_ids/",
        {"dataset": "dataset/", "features": "features/"},
    ),
    "train": Stage(
        "llmrec.training.next_item.run:run",
        "dataset and item IDs -> model",
        "models.*.train",
        "models/*/model/",
        {
            "dataset": "dataset/",
            "features": "features/",
            "media": "media_features/",
            "item_ids": "models/*/item_ids/",
        },
    ),
    "hybrid": Stage(
        "llmrec.ranking.hybrid.run:run",
        "model and item graph -> how much each counts",
        "models.*.hybrid",
        "models/*/hybrid/",
        {"dataset": "dataset/", "model": "models/*/model/", "features": "features/"},
    ),
    "model expand": Stage(
        "llmrec.training.next_item.expand:run", "base model -> base with item tokens"
    ),
    "model merge": Stage("llmrec.llm.merge:run", "base and adapter -> model"),
    "tune": Stage(
        "llmrec.training.tune.run:run", "expanded base -> LoRA, QLoRA or full fine-tuning", "tune"
    ),
    "prefer": Stage(
        "llmrec.training.preference.run:run",
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
        "llmrec.ranking.ctr.run:run",
        "impressions and clicks -> calibrated click probabilities",
        "ctr",
        "ctr/",
        {
            "dataset": "dataset/",
            "fusion": "fusion/",
            "captions": "categorical_features/",
            "engagement": "engagement/",
        },
        ("models", "bench", "refreshed"),
    ),
    "monitor": Stage(
        "llmrec.ranking.monitor.run:run",
        "was it clicked as often as predicted? have inputs drifted?",
    ),
    "bundle": Stage("llmrec.serving.build:run", "model -> one folder that serves"),
    "items add": Stage("llmrec.serving.add_items:run", "bundle and new items -> bundle"),
    "recommend": Stage(
        "llmrec.serving.cli:recommend", "ranked items for a history, a user or all users"
    ),
    "similar": Stage("llmrec.serving.cli:similar", "the items most like one"),
    "evaluate": Stage(
        "llmrec.bench.evaluate:run",
        "measure a bundle or a baseline",
        "evaluate",
        "",
        {"dataset": "dataset/"},
    ),
    "evaluate compare": Stage(
        "llmrec.bench.evaluation_compare:run", "is one evaluated run better than another?"
    ),
    "evaluate seeds": Stage(
        "llmrec.bench.evaluation_seeds:run", "several trainings of one model -> their mean"
    ),
    "evaluate domains": Stage(
        "llmrec.bench.domains:run",
        "measure a model on each of several domains",
        "domains",
        "",
        {"dataset": "dataset/", "features": "features/"},
        ("shuffled",),
    ),
    "evaluate domains-compare": Stage(
        "llmrec.bench.domains_compare:run", "does one model rank each domain better than another?"
    ),
    "evaluate report": Stage(
        "llmrec.bench.evaluation_report:write_report", "result files -> a page and plots"
    ),
    "chat": Stage(
        "llmrec.serving.assistant.chat_cli:chat", "talk to a shop's assistant on the terminal"
    ),
    "serve": Stage("llmrec.serving.server:serve", "the OpenAI-compatible API"),
    "vllm": Stage(
        "llmrec.generation.vllm_command:serve_vllm", "a vLLM server for llmrec serve --vllm-url"
    ),
    "mcp": Stage(
        "llmrec.serving.ucp.service:serve_mcp", "catalogue and carts for agents, over stdio"
    ),
    "keys create": Stage("llmrec.serving.keys_cli:create", "an API key of a service"),
    "keys list": Stage("llmrec.serving.keys_cli:list_keys", "the API keys of a service"),
    "keys revoke": Stage("llmrec.serving.keys_cli:revoke", "end an API key of a service"),
    "store prune": Stage(
        "llmrec.serving.store_cli:prune", "forget events and recommendations that are too old"
    ),
    "experiment report": Stage(
        "llmrec.serving.experiments.report:run", "what each variant has earned so far"
    ),
    "experiment end": Stage(
        "llmrec.serving.experiments.cli:run", "end an experiment that began over the API"
    ),
    "experiment off-policy": Stage(
        "llmrec.serving.experiments.unserved:run", "what a variant never shown would have earned"
    ),
    "experiment simulate": Stage(
        "llmrec.experiments.simulate:run", "false alarms of experiments that are looked at daily"
    ),
    "bench decode": Stage("llmrec.bench.decode:run", "time the decoder against other engines"),
    "bench tune": Stage("llmrec.bench.tune:run", "LoRA and QLoRA against full fine-tuning"),
    "bench prefer": Stage("llmrec.bench.prefer:run", "DPO and GRPO against supervised alone"),
    "bench trie": Stage("llmrec.bench.trie:run", "time and size the catalogue's trie"),
    "bench why": Stage("llmrec.bench.why:run", "for whom does each evaluated model help?"),
    "bench captions": Stage(
        "llmrec.bench.captions:run", "how often the fields of captions are right"
    ),
    "bench intent": Stage("llmrec.bench.intent:run", "how often intents are right"),
    "bench speech": Stage(
        "llmrec.bench.speech:run", "a Whisper's word error rate, and how fast it is"
    ),
    "bench temporal": Stage("llmrec.bench.temporal:run", "a temporal encoder against the mean"),
    "bench search": Stage("llmrec.bench.search:run", "do words find the right picture, and back?"),
    "bench fusion": Stage(
        "llmrec.bench.fusion:run", "fused vectors against text alone", "bench_fusion"
    ),
    "bench ctr": Stage(
        "llmrec.bench.ctr:run",
        "a click model, its parts and the whole cascade",
        "ctr",
        "",
        {
            "dataset": "dataset/",
            "fusion": "fusion/",
            "captions": "categorical_features/",
            "engagement": "engagement/",
            "features": "features/",
            "media": "media_features/",
        },
        ("models", "bench", "refreshed"),
    ),
    "bench ctr-latency": Stage(
        "llmrec.bench.latency:time_click_model", "time a click model's answer"
    ),
    "bench cascade-latency": Stage("llmrec.bench.latency:time_cascade", "time the whole cascade"),
    "bench service": Stage(
        "llmrec.bench.service:run", "a service under load, killed, and fed with nonsense"
    ),
    "bench new-items": Stage(
        "llmrec.bench.new_items:run", "who is recommended an item that came a moment ago?"
    ),
    "bench assistant": Stage(
        "llmrec.bench.assistant:run", "the assistant against simulated shoppers and adversaries"
    ),
    "bench redial": Stage(
        "llmrec.bench.redial:run", "films recommended from what was named and said in a dialogue"
    ),
    "bench assistant-tools": Stage(
        "llmrec.bench.assistant_tools:run", "does the assistant call the right tool?"
    ),
    "bench agree": Stage("llmrec.bench.agree:run", "is what is served what was trained?"),
    "verify": Stage("llmrec.stage:verify", "check every file of a finished folder"),
    "doctor": Stage("llmrec.environment:doctor", "check that every package works on this machine"),
}
