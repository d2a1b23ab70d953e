"""What SASRec reads of a long history is what it was trained to read."""

import numpy as np
import torch

from llmrec.training.next_item.sasrec import SasRec, SasRecRecommender
from llmrec.types import Histories


def test_no_position_is_read_that_training_never_reached() -> None:
    torch.manual_seed(0)
    model = SasRec(20, layers=1, width=16, heads=1, max_items=5, dropout=0.0)
    recommender = SasRecRecommender(model.eval())
    histories = Histories.from_lists([[1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 5], [1, 2]])
    before = recommender.score(histories)
    with torch.no_grad():
        # five events are the tokens: start, e1..e4 -> target e5; position 5 is never an input
        model.position_embedding.weight[5:] += 100.0
    np.testing.assert_array_equal(recommender.score(histories), before)
