"""A bundle that answers requests: in Python, on the command line and over an OpenAI-compatible API.

    recommender = Recommender.load("runs/demo/models/atomic/bundle")
    response = recommender.recommend(["item-17", "item-3"], n=5, context={"device": "mobile"})

A request's way, whichever door it comes through:

* :mod:`~llmrec.serving.app` (with the bodies of :mod:`~llmrec.serving.openai_api`) or
  :mod:`~llmrec.serving.cli` make a :class:`~llmrec.serving.request.RecommendRequest`;
* :mod:`~llmrec.serving.query_reader` reads its history (:mod:`~llmrec.serving.history`) and its
  filters (:mod:`~llmrec.serving.item_table`);
* :mod:`~llmrec.serving.recommender` has it ranked by :mod:`~llmrec.serving.click_ranker` where the
  bundle has a click model, by :mod:`~llmrec.serving.language_ranker` otherwise;
* the same :class:`~llmrec.serving.request.RecommendResponse` goes back.

:mod:`~llmrec.serving.build` makes a bundle, :mod:`~llmrec.serving.bundle` opens it,
:mod:`~llmrec.serving.add_items` gives it more items. :mod:`~llmrec.serving.similar` ranks by
closeness to an item, :mod:`~llmrec.serving.everyone` answers for all users of a dataset at once.
"""
