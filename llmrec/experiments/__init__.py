"""The mathematics of experiments: who gets which variant, and what may be concluded when.

Nothing here knows a service or a store; :mod:`llmrec.serving.experiments` brings both together.

* :mod:`~llmrec.experiments.assignment`: a person's variant, by a salted hash;
* :mod:`~llmrec.experiments.sequential`: a test and intervals that hold however often one looks;
* :mod:`~llmrec.experiments.sample_ratio`: did each variant get its share of people?
* :mod:`~llmrec.experiments.off_policy`: what would a variant that was never shown have earned?
* :mod:`~llmrec.experiments.bandit_log`: logs in the form of the Open Bandit Dataset;
* :mod:`~llmrec.experiments.simulate`: ``llmrec experiment simulate``, false alarms of all this.
"""
