"""A catalogue that changes while it is served.

:mod:`~llmrec.serving.catalogue.live` takes changes, keeps them in the store and puts them in force;
:mod:`~llmrec.serving.catalogue.versions` makes of them what ranks: vectors, item IDs, rows of the
language model, neighbours in the item graph, features of the click model.
"""
