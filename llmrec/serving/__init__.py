"""The whole way from a person to a shown list: candidates, LLM score, click probability, order.

    recommender = Recommender.load("runs/demo/models/atomic/bundle")
    answer = recommender.recommend(history=["item-17", "item-3"], context={"device": "mobile"})

* :mod:`~llmrec.serving.recommender`: the steps, one after the other.
* :mod:`~llmrec.serving.history`: what is asked, from the shop's words to arrays.
* :mod:`~llmrec.serving.reasons`: why an item is shown, in plain words.
* :mod:`~llmrec.serving.answer`: what comes back.
"""
