"""Opens the language model of a model folder."""

from __future__ import annotations

from pathlib import Path

import torch

from llmrec.content.features.models import check_layers
from llmrec.errors import ArtifactError, one_line
from llmrec.generation.beam_search import SearchOptions
from llmrec.generation.frontier import Normalise
from llmrec.generation.history_cache import HistoryCache
from llmrec.generation.llm import Llm, make_llm
from llmrec.llm.layout import read_layout


def load_llm(
    folder: str | Path,
    *,
    beams: int = 50,
    cache_bytes: int = 0,
    normalise: Normalise = "children",
) -> Llm:
    """The language model of a model folder, ready to recommend.

    Args:
        beams: beam width for semantic IDs.
        cache_bytes: size of the history cache; 0 for none.
        normalise: see :class:`~llmrec.generation.frontier.Scoring`.

    Raises:
        ArtifactError: if its files are missing or do not fit together.
        ConfigError: if the model is not of the LLaMA family.
    """
    from transformers import AutoModelForCausalLM

    folder = Path(folder)
    ids, encoder = read_layout(folder)
    check_layers(folder)
    try:
        model, loading = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, output_loading_info=True, trust_remote_code=False
        )
    # transformers raises nearly anything for files that are damaged, or of another kind
    except Exception as error:
        raise ArtifactError(f"{folder}: not a trained llmrec model ({one_line(error)})") from None
    if loading["missing_keys"]:  # transformers would go on with random weights
        missing = sorted(loading["missing_keys"])[0]
        raise ArtifactError(f"{folder}: the model's weights lack {missing}; train it again")
    if model.get_input_embeddings().weight.shape[0] < encoder.vocabulary.size:
        raise ArtifactError(f"{folder}: the model has no rows for its item tokens; train it again")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model.to(device).eval()
    cache = HistoryCache(cache_bytes) if cache_bytes else None
    return make_llm(
        model,
        encoder,
        ids,
        beams=beams,
        options=SearchOptions(normalise=normalise),
        cache=cache,
    )
