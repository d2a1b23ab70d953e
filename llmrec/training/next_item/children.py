"""Cross-entropy of the later tokens of an ID over the codes that go on to an item.

After the first codes of an ID few codes of the next level make an item, and only those are ever
compared when items are ranked (``normalise: children`` of :class:`~llmrec.generation.frontier.
Scoring`). Trained over those alone, the loss of an ID is exactly the negative log-likelihood of its
item among all items; over the whole level it would also teach which codes no item has.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from llmrec.generation.trie import ItemTrie
from llmrec.item_ids.item_ids import ItemIds


class ChildrenCrossEntropy:
    """The loss of levels after the first.

    Args:
        ids: semantic IDs.
        items: int ``[m]``, those that take part, in ascending order; targets are among them.
    """

    def __init__(self, ids: ItemIds, items: np.ndarray) -> None:
        self.ids, self.trie = ids, ItemTrie(ids.codes[items], items, ids.n_items)

    def __call__(
        self, hidden: torch.Tensor, table: torch.Tensor, codes: list[torch.Tensor], level: int
    ) -> torch.Tensor:
        """Mean over all targets; one whose code has no alternative costs nothing.

        Args:
            hidden: float ``[n, width]``, states after which the code of ``level`` comes.
            table: float ``[level size, width]``, rows of the level.
            codes: one int64 ``[n]`` a level, the IDs of the targets.
            level: 1 or more.
        """
        items = self.ids.decode(torch.stack(codes, dim=1).cpu().numpy())
        leaves = self.trie.leaf_of_item[torch.from_numpy(items)].long()
        _, parents, places = self.trie.locate(level, leaves)
        children = self.trie.children(level, parents)
        several = children.exists.sum(1) > 1
        exists, places, states = (
            part[several.to(part.device)].to(hidden.device)
            for part in (children.exists, places, hidden)
        )
        if children.codes is None:  # of a level where most codes go on
            logits = states @ table[: exists.shape[1]].T
        else:
            rows = F.embedding(children.codes[several].to(hidden.device).clamp(min=0), table)
            logits = torch.bmm(rows, states[:, :, None])[:, :, 0]
        logits = logits.masked_fill(~exists, float("-inf"))
        return F.cross_entropy(logits, places, reduction="sum") / len(hidden)
