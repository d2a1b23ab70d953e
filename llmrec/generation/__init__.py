"""From histories to ranked items, on our engine or on vLLM.

::

    llm             the recommender: histories, constraints and options in, a Ranking out
    load            opens one from a model's folder
    multi_lora      one base and its LoRA adapters, served side by side

    trie            the catalogue's item IDs as a prefix tree (trie_levels builds it)
    constraints     what a request may be answered with, down to the children of a trie's node
    frontier        the beams of a step: nodes, scores, and how logits become scores
    beam_search     constrained beam search; exact_search and candidates walk the same trie
    cuda_graph      the beam search as one CUDA graph a shape

    engine          prefill and decode steps of a LLaMA-like model (layer: one layer of it)
    kv_cache        keys and values of a batch's prompts and beams
    history_cache   keys and values of histories across requests

    vllm_llm        the same recommender on vLLM, with LoRA adapters
    vllm_engine     its decode steps; vllm_constraint runs inside vLLM, vllm_start starts it
"""
