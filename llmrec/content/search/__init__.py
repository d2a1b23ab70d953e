"""Find items by words, by a picture or by voice, in the one space of a CLIP.

The reader's way: ``vectors`` (which vector stands for an item), ``nearest`` (the faiss index over
them), ``build`` (``llmrec search index``), ``searcher`` (:class:`SearchIndex`), ``query`` (a query
as a vector), ``command`` (``llmrec search``).
"""
