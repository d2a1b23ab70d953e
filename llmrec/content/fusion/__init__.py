"""One vector an item from its text, picture, video and speech, whichever it has.

Read on in this order: ``modalities`` (what an item has), ``encoder`` (cross-attention over it),
``behaviour`` (who liked what), ``losses``, ``train``, ``run`` (the stage), then ``retrieval`` (the
measure of item-to-item retrieval).
"""
