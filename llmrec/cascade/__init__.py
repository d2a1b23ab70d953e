"""The whole way from a person to a shown list: candidates, LLM score, click probability, order.

    recommender = Recommender.load("runs/demo/models/atomic/bundle")
    answer = recommender.recommend(history=["item-17", "item-3"], context={"device": "mobile"})

* :mod:`~llmrec.cascade.recommender`: the steps, one after the other.
* :mod:`~llmrec.cascade.request`: what is asked, from the shop's words to arrays.
* :mod:`~llmrec.cascade.reasons`: why an item is shown, in plain words.
* :mod:`~llmrec.cascade.answer`: what comes back.
"""
