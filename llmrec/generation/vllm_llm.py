"""Item generation on vLLM: the same search over the same trie, another engine beneath it.

    with VllmLlm("runs/demo/models/atomic/bundle") as llm:
        llm.recommend(histories, 10, adapter="gifts")

One request to vLLM is one step: a prompt and the codes said so far go in, the best codes that may
follow come out with their log-probabilities, masked and normalised inside vLLM by
:class:`~llmrec.generation.vllm_constraint.ItemConstraint`. All users and beams of a level go in at
once, whatever adapters they want, and vLLM's prefix cache keeps what was read of a history. What is
kept of it, :mod:`~llmrec.generation.beam_search` decides, as it does for our own engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch

from llmrec.errors import ArtifactError, ConfigError, require
from llmrec.generation.beam_search import SearchOptions, beam_search, check_scores
from llmrec.generation.constraints import Constraints, LeafConstraints
from llmrec.generation.engine import context_of
from llmrec.generation.exact import exact_search
from llmrec.generation.llm import prompts_of, requests_of
from llmrec.generation.trie import ItemTrie
from llmrec.generation.vllm_steps import Asked, VllmSteps
from llmrec.llm.adapters import check_adapters, read_adapter
from llmrec.llm.layout import read_layout
from llmrec.stage import MANIFEST, read_manifest
from llmrec.types import Histories, Ranking

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM can make room for
CONSTRAINT = "llmrec.generation.vllm_constraint:ItemConstraint"


@dataclass(frozen=True)
class VllmSettings:
    """How vLLM is started.

    Attributes:
        dtype: in which numbers it computes.
        memory_gib: for keys and values.
        block_size: tokens of a block of these. Beams share the whole blocks of their history only,
            so small ones are better for short prompts.
        batch_size: users answered at once.

    Raises:
        ConfigError: if a value makes no sense.
    """

    dtype: Literal["float32", "bfloat16"] = "float32"
    memory_gib: float = 1.0
    block_size: int = 32
    batch_size: int = 256

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "bfloat16"):
            raise ConfigError(f"dtype: {self.dtype!r} is neither float32 nor bfloat16")
        for name in ("memory_gib", "block_size", "batch_size"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}: must be above 0")


class VllmLlm:
    """A :class:`~llmrec.recommender.ListRecommender` on vLLM, for atomic and semantic item IDs.

    Args:
        folder: a bundle, served with the adapters it holds, or the folder of a model.
        adapters: folders of adapters for a model.
        beams: beam width for semantic IDs.
        settings: how vLLM is started.

    Attributes:
        adapters: the folder of each adapter, by name.

    Raises:
        ArtifactError: for a folder that cannot be used, or an adapter made for another base.
        ConfigError: if adapters are given beside those of a bundle, or two have one name.
        MissingExtraError: if vLLM is not installed.

    It starts a process of vLLM, which :meth:`close` or the end of a ``with`` block ends.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        adapters: Sequence[str | Path] = (),
        beams: int = 50,
        settings: VllmSettings | None = None,
    ) -> None:
        require("vllm", "vllm")
        self.settings = settings or VllmSettings()
        self.options = SearchOptions(beams=beams)
        model, adapters = _parts(Path(folder), adapters)
        self.adapters = check_adapters(model, adapters) if adapters else {}
        self.ids, encoder = read_layout(model)
        config = _config(model)
        _check_head_size(model, config)
        self.encoder = encoder.limited(context_of(config))
        self.trie = ItemTrie(self.ids.codes)
        self.llm = _start(model, self.encoder.max_tokens(), self.adapters, self.settings)

    def close(self) -> None:
        """End vLLM's process."""
        self.llm.llm_engine.engine_core.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def n_items(self) -> int:
        """Items of the catalogue."""
        return self.ids.n_items

    def recommend(
        self,
        histories: Histories,
        n: int,
        *,
        exclude_history: bool = True,
        adapter: str | Sequence[str | None] | None = None,
        constraints: Sequence[Constraints] | None = None,
        options: SearchOptions | None = None,
    ) -> Ranking:
        """The n best items the search finds.

        Args:
            adapter: name of the adapter to ask, None for the base; or one a user.
            constraints: one a user, beside the exclusion of the history.
            options: how to search.

        Raises:
            CatalogError: for an item index outside the catalogue, or n below 1.
            ConfigError: for an adapter that is not loaded, a wrong number of adapters or
                constraints, or a way of scoring that vLLM does not have.
            LlmrecError: if the model's scores are not finite.
        """
        options = options or self.options
        if options.normalise != "children":
            raise ConfigError("normalise: vLLM scores over 'children' only")
        requests = requests_of(histories, n, exclude_history, constraints)
        adapters = self._adapters_of(adapter, len(histories))
        prompts = prompts_of(self.encoder, histories, self.n_items)
        items = np.full((len(prompts), n), -1, dtype=np.int64)
        scores = np.full((len(prompts), n), -np.inf, dtype=np.float32)
        search = exact_search if options.exact else beam_search
        for start in range(0, len(prompts), self.settings.batch_size):
            users = slice(start, start + self.settings.batch_size)
            limits = LeafConstraints(self.trie, requests[users])
            asked = Asked(prompts[users], adapters[users])
            keep = _needed(limits, n, options)
            steps = VllmSteps(self.llm, self.encoder.vocabulary, self.trie, asked, keep)
            found = search(steps, self.trie, steps.read(), limits, n, options)
            check_scores(found.scores)
            items[users], scores[users] = found.items.numpy(), found.scores.numpy()
        return Ranking(items, scores)

    def with_adapter(self, name: str | None) -> VllmAdapter:
        """The recommender of one adapter, or of the base for None.

        Raises:
            ConfigError: for a name that is not loaded.
        """
        self._check_loaded(name)
        return VllmAdapter(self, name)

    def _adapters_of(self, adapter: str | Sequence[str | None] | None, users: int) -> list[Any]:
        """vLLM's name for each user's adapter."""
        from vllm.lora.request import LoRARequest

        names = [adapter] * users if adapter is None or isinstance(adapter, str) else [*adapter]
        if len(names) != users:
            raise ConfigError(f"adapter: {len(names)} are given for {users} users")
        for name in set(names):
            self._check_loaded(name)
        made = {
            name: LoRARequest(name, number, str(folder))
            for number, (name, folder) in enumerate(self.adapters.items(), start=1)
        }
        return [None if name is None else made[name] for name in names]

    def _check_loaded(self, name: str | None) -> None:
        if name is not None and name not in self.adapters:
            known = ", ".join(self.adapters) or "none"
            raise ConfigError(f"adapter: {name!r} is not loaded; there is {known}")


@dataclass(frozen=True)
class VllmAdapter:
    """One adapter of a :class:`VllmLlm` as a :class:`~llmrec.recommender.ListRecommender`.

    Attributes:
        llm: what it runs on.
        name: the adapter; None for the base.
    """

    llm: VllmLlm
    name: str | None

    @property
    def n_items(self) -> int:
        """Items of the catalogue."""
        return self.llm.n_items

    def recommend(self, histories: Histories, n: int, *, exclude_history: bool = True) -> Ranking:
        """See :meth:`VllmLlm.recommend`."""
        return self.llm.recommend(histories, n, exclude_history=exclude_history, adapter=self.name)


def _needed(limits: LeafConstraints, n: int, options: SearchOptions) -> int | None:
    """How many children of a prefix the search may look at; None for all.

    A beam search keeps ``beams`` and looks at one more. Each excluded item can take the place of
    one of these. What few items are allowed may stand anywhere, and with another temperature all
    have their part in what adds up to one.
    """
    if options.exact or options.groups > 1 or options.temperature != 1:
        return None
    if limits.allowed is not None or limits.counts is not None:
        return None
    return max(options.beams, n) + 1 + limits.excluded.shape[1]


def _parts(folder: Path, adapters: Sequence[str | Path]) -> tuple[Path, list[Path]]:
    """The model's folder and those of its adapters."""
    if not (folder / MANIFEST).is_file() or read_manifest(folder).stage != "bundle":
        return folder, [Path(adapter) for adapter in adapters]
    if adapters:
        raise ConfigError(f"adapters: {folder} is a bundle and brings its own; give its model")
    from llmrec.llm.bundle_layout import ADAPTERS

    return folder / "model", sorted((folder / ADAPTERS).glob("*"))


def _config(model: Path) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(model, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise ArtifactError(f"{model}: not a trained llmrec model ({reason})") from None


def _check_head_size(model: Path, config: Any) -> None:
    """On a CPU, vLLM starts with any model and dies of some with the first request."""
    if torch.cuda.is_available():
        return
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    known = CPUAttentionBackend.get_supported_head_sizes()
    if size not in known:
        raise ArtifactError(
            f"{model}: its attention heads are {size} wide; on a CPU vLLM serves "
            f"{', '.join(map(str, known))}"
        )


def _start(model: Path, longest: int, adapters: dict[str, Path], settings: VllmSettings) -> Any:
    """vLLM on a model's folder."""
    from vllm import LLM

    own: dict[str, Any] = {}
    if adapters:
        # One place more than there are adapters: on a CPU, vLLM's kernels let a request without
        # one read the last place, which has to stay empty.
        own = {
            "enable_lora": True,
            "max_loras": len(adapters) + 1,
            "max_lora_rank": _rank(adapters),
        }
    try:
        return LLM(
            model=str(model),
            dtype=settings.dtype,
            skip_tokenizer_init=True,  # token ids in, token ids out
            enforce_eager=not torch.cuda.is_available(),
            max_model_len=longest,
            generation_config="vllm",  # the model's own may cut beams off
            max_logprobs=-1,
            logprobs_mode="processed_logprobs",  # what the constraint leaves adds up to one
            logits_processors=[CONSTRAINT],
            enable_prefix_caching=True,
            block_size=settings.block_size,
            kv_cache_memory_bytes=int(settings.memory_gib * 2**30),
            **own,
        )
    except (ValueError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ArtifactError(f"{model}: vLLM cannot serve it ({reason})") from error


def _rank(adapters: dict[str, Path]) -> int:
    """What vLLM has to make room for."""
    largest = max(read_adapter(folder).rank for folder in adapters.values())
    for rank in RANKS:
        if rank >= largest:
            return rank
    raise ConfigError(f"adapter: rank {largest} is more than the {RANKS[-1]} that vLLM can serve")
