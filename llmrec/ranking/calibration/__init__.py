"""Calibration: from the logit of a click model to a probability of a click.

::

    chosen = choose(logits, labels, groups, fields)     # validation rows
    chosen.calibrator.save("calibrator.json")
    p = load_calibrator("calibrator.json").apply(logits, fields)

* :mod:`~llmrec.ranking.calibration.methods`: how each method is fitted, and what it makes of a
  logit.
* :mod:`~llmrec.ranking.calibration.calibrator`: a fitted method, with what it was fitted on, as
  JSON.
* :mod:`~llmrec.ranking.calibration.choosing`: which method the rows at hand are enough for.
"""

from llmrec.ranking.calibration.calibrator import Calibrator, FittedOn, fit, load_calibrator
from llmrec.ranking.calibration.choosing import CalibrationChoice, MethodScore, choose

__all__ = [
    "CalibrationChoice",
    "Calibrator",
    "FittedOn",
    "MethodScore",
    "choose",
    "fit",
    "load_calibrator",
]
