"""Text vectors out of a random generator, and a small text model that makes such: to be timed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from safetensors.numpy import save_file

from llmrec.config import as_dict
from llmrec.content.features.models import unit_rows, weights_hash
from llmrec.content.features.text import EMBEDDINGS, STAGE, EmbedConfig
from llmrec.content.features.text_encoder import locate_model
from llmrec.stage import Manifest, folder_hash, writing


def write_text_model(folder: Path, dim: int = 16, seed: int = 0) -> Path:
    """A sentence-transformers model with a random vector for each letter."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models

    letters = [chr(code) for code in range(32, 127)]
    vocabulary = {token: number for number, token in enumerate(["[UNK]", *letters])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="[UNK]"))
    torch.manual_seed(seed)
    module = StaticEmbedding(tokenizer, embedding_dim=dim)
    model = SentenceTransformer(modules=[module], device="cpu", trust_remote_code=False)
    model.save(str(folder), create_model_card=False)
    return folder


def write_features(
    out: Path, dataset: Path, dim: int, config: EmbedConfig | None = None, seed: int = 0
) -> Path:
    """A folder as ``llmrec embed`` writes it, with random vectors of ``dim`` numbers."""
    config = config or EmbedConfig()
    inputs = {"dataset": folder_hash(dataset), "model": weights_hash(locate_model(config.model))}
    n = pq.read_metadata(dataset / "items.parquet").num_rows
    vectors = unit_rows(np.random.default_rng(seed).standard_normal((n, dim)))
    with writing(out, Manifest(STAGE, as_dict(config), inputs, seed=seed)) as stage:
        blocks = {"text": vectors, "present": np.ones(n, np.uint8)}
        save_file(blocks, stage.folder / EMBEDDINGS)
    return out
