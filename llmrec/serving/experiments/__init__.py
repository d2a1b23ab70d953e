"""Experiments of a service: who is answered how, what was shown, what came of it.

* :mod:`~llmrec.serving.experiments.settings`: the file of ``llmrec serve --experiments FILE``;
* :mod:`~llmrec.serving.experiments.variants`: its variants, opened, one for each request;
* :mod:`~llmrec.serving.experiments.live`: those of ``/v1/experiments`` beside them;
* :mod:`~llmrec.serving.experiments.exploration`: another item in the first place, now and then;
* :mod:`~llmrec.serving.experiments.outcomes`: lists that were shown, joined with what people did;
* :mod:`~llmrec.serving.experiments.report`: ``llmrec experiment report``;
* :mod:`~llmrec.serving.experiments.unserved`: ``llmrec experiment off-policy``.

The mathematics is in :mod:`llmrec.experiments`.
"""
