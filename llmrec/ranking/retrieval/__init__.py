"""Retrieval of candidates: several sources propose items to a user, and say what they think of any.

``generated`` by the language model, ``nearest`` in content, ``together`` with what the user took,
``popular``, and ``cold`` ones that hardly anybody took yet. Each is as of a time: nothing that
happened at or after it is known.

    snapshots = fit_snapshots(log, times, n_items)        # snapshot.py: what was known when
    make = StandardSources(vectors, model=llm)            # standard.py: the five sources
    describe_as_of(snapshots, make, histories, shown)     # describe.py: features, in training
    candidates(make(snapshot), histories)                 # candidates.py: in serving
    retrieval_table(make(snapshot), cases)                # measure.py: how many are found
"""
