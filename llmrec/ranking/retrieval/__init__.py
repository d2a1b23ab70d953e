"""Retrieval of candidates: several sources propose items to a user and score any.

``generated`` by the language model, ``content`` neighbours, ``item_to_item`` co-occurrence,
``popular`` items and ``cold_start`` ones with hardly any events. Each is as of a time: nothing that
happened at or after it is known.

    snapshots = fit_snapshots(log, times, n_items)             # snapshot.py: statistics by time
    catalogue = Catalogue(vectors, model=llm)                  # catalogue.py: what sources read
    source_features_as_of(snapshots, catalogue, histories, items)   # in training
    candidates(make_sources(catalogue, snapshot), histories)   # candidates.py: in serving

A new source is one file with a subclass of :class:`~llmrec.ranking.retrieval.source.Source` and one
line in :data:`llmrec.ranking.retrieval.sources.SOURCES`.
"""
