"""Click models that the network has to beat, on the same rows and features.

* :class:`LogisticRegression`: linear, on sparse rows;
* :class:`Trees`: gradient-boosted, by LightGBM;
* :class:`Popularity` and :class:`ScoreAlone`: one number alone.

All have ``fit(table, labels, validation_table, validation_labels, seed)`` and ``logits(table)``.
"""

from llmrec.bench.ctr_baselines.column import Popularity, ScoreAlone
from llmrec.bench.ctr_baselines.logistic import LogisticRegression
from llmrec.bench.ctr_baselines.model import ClickModel, log_loss
from llmrec.bench.ctr_baselines.table import Table
from llmrec.bench.ctr_baselines.trees import CHOICES, Trees, TreeSettings

__all__ = [
    "CHOICES",
    "ClickModel",
    "LogisticRegression",
    "Popularity",
    "ScoreAlone",
    "Table",
    "TreeSettings",
    "Trees",
    "log_loss",
]
