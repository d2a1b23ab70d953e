"""Click models that the network has to beat, on the same rows and features.

* :class:`LogisticRegression`: linear, on sparse rows;
* :class:`Trees`: gradient-boosted, by LightGBM;
* :class:`Popularity` and :class:`ScoreAlone`: one number alone.

All have ``fit(table, labels, validation_table, validation_labels, seed)`` and ``logits(table)``.
"""

from llmrec.ctr.baseline_column import Popularity, ScoreAlone
from llmrec.ctr.baseline_logistic import LogisticRegression
from llmrec.ctr.baseline_model import ClickModel, log_loss
from llmrec.ctr.baseline_trees import CHOICES, Trees, TreeSettings
from llmrec.ctr.table import Table

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
