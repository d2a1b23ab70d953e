"""The catalogue as a constraint on vLLM: no token that leads to no item.

vLLM finds :class:`ItemConstraint` by its entry point, wherever llmrec is installed beside it, in
process or as a server; ``llmrec vllm BUNDLE`` starts one with all that it takes.

A request asks for it with ``extra_args`` (over HTTP ``vllm_xargs``): ``{"llmrec_item_prefix": 2}``
says that the prompt's last two tokens begin an item ID and the answer continues it, 0 that the
answer begins one. A request without it, such as a chat, is left alone. What a request has generated
is read from the request itself, so one that is moved within the batch or preempted keeps its place.

vLLM has two model runners with an interface each. This is the first one's; where the second runs, a
model without item IDs is left alone and one with them is refused when vLLM starts.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from llmrec.errors import ConfigError
from llmrec.generation.trie import ItemTrie
from llmrec.generation.trie_levels import ENDED
from llmrec.generation.vllm_start import OTHER_RUNNER
from llmrec.generation.vllm_tokens import ITEM_PREFIX
from llmrec.llm.layout import LAYOUT, read_layout

try:  # the other runner takes its own kind alone, even of those that do nothing
    from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as OtherProcessor
except ImportError:  # before vLLM 0.31

    class OtherProcessor:  # type: ignore[no-redef]
        """Nothing."""


if TYPE_CHECKING:
    from vllm import SamplingParams


@dataclass(frozen=True)
class _ItemRequest:
    """A running request: tokens of its item ID that the prompt holds, and those generated since.

    ``output`` is vLLM's own list, which grows.
    """

    prompt_tail: list[int]
    output: list[int]

    @property
    def item_tokens(self) -> list[int]:
        return self.prompt_tail + self.output


class ItemConstraint(LogitsProcessor, OtherProcessor):  # type: ignore[misc]
    """Masks every token that does not go on to a real item; after a whole item, all but the end.

    Args:
        vllm_config: names the model's folder, whose ``llmrec.json`` and ``item_ids/`` say which
            tokens are items. A model without them is left alone.
        device: where the logits are; of the second runner something else.

    Raises:
        ArtifactError: if the item IDs are damaged.
        ConfigError: if the second runner is to serve a model with item IDs.
    """

    def __init__(self, vllm_config: Any, device: Any, is_pin_memory: bool = False) -> None:
        model = vllm_config.model_config
        self._requests: dict[int, _ItemRequest] = {}
        if not (Path(model.model) / LAYOUT).is_file():
            return
        if not isinstance(device, torch.device):
            raise ConfigError(OTHER_RUNNER)
        ids, encoder = read_layout(Path(model.model))
        self._vocabulary = encoder.vocabulary
        self._trie = ItemTrie(ids.codes).to(device)
        end = model.hf_config.eos_token_id
        self._end = int(end[0] if isinstance(end, list) else end)

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Check a request's ``extra_args``.

        Raises:
            ValueError: if it is no number of tokens.
        """
        length = (sampling_params.extra_args or {}).get(ITEM_PREFIX)
        if length is not None and (type(length) is not int or length < 0):
            raise ValueError(f"{ITEM_PREFIX}: {length!r} is not a number of tokens, 0 or more")

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        """Of the second runner, which gets here for models without items alone."""
        return False

    def is_argmax_invariant(self) -> bool:
        """False: the likeliest token may be no item."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow requests as they come, go and change places in the batch."""
        process_dict_updates(self._requests, batch_update, _item_request)

    def apply(self, logits: torch.Tensor, _context: Any = None) -> torch.Tensor:
        """Set what leads to no item to -inf.

        Args:
            logits: ``[requests, vocabulary]``, changed in place.
        """
        by_depth: dict[int, list[int]] = defaultdict(list)
        for row, request in self._requests.items():
            by_depth[len(request.item_tokens)].append(row)
        for depth, rows in by_depth.items():
            prefixes = torch.tensor([self._requests[row].item_tokens for row in rows])
            prefixes = prefixes.long().view(len(rows), depth).to(logits.device)
            tokens, exists = self._following(prefixes)
            kept = torch.zeros(len(rows), logits.shape[1] + 1, dtype=torch.bool).to(logits.device)
            # One place behind the last takes what does not exist.
            kept.scatter_(1, torch.where(exists, tokens, logits.shape[1]), True)
            place = torch.tensor(rows, device=logits.device)
            logits[place] = logits[place].masked_fill(~kept[:, :-1], float("-inf"))
        return logits

    def _following(self, prefixes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens that may come after others, and where there are any.

        Args:
            prefixes: int64 ``[requests, depth]`` tokens.

        Returns:
            int64 and bool ``[requests, widest]``.
        """
        depth, levels = prefixes.shape[1], range(len(self._vocabulary.level_sizes))
        first = [self._vocabulary.level_tokens(level).start for level in levels]  # of code 0 each
        ended = torch.full((len(prefixes), 1), self._end, device=prefixes.device)
        if depth >= len(first):
            return ended, torch.ones_like(ended, dtype=torch.bool)
        nodes = self._trie.find(prefixes - torch.tensor(first[:depth], device=prefixes.device))
        children = self._trie.children(depth, nodes)
        codes = children.codes
        if codes is None:
            codes = torch.arange(children.exists.shape[1], device=prefixes.device)
        going_on = children.exists & (codes != ENDED)
        over = ~going_on.any(1, keepdim=True)  # a whole ID, or none that there is
        tokens = (codes + first[depth]).expand_as(going_on)
        return torch.cat([tokens, ended], 1), torch.cat([going_on, over], 1)


def _item_request(params: Any, prompt: list[int] | None, output: list[int]) -> _ItemRequest | None:
    """A new request, if it asks for items."""
    length = (params.extra_args or {}).get(ITEM_PREFIX)
    if length is None:
        return None
    prompt = prompt or []
    return _ItemRequest(prompt[len(prompt) - length :], output)
