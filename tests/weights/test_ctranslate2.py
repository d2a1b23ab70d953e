"""CTranslate2's file of a Whisper, written here as its description says, read back whole."""

import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("whisper", reason="needs the media extra")

import torch
import whisper
from tiny_media import tiny_whisper

from llmrec.errors import ArtifactError
from llmrec.weights.ctranslate2 import convert_whisper

# CTranslate2's name of each part of a block: what openai-whisper keeps it as, stacked
LINEAR = {
    "self_attention/linear_0": ("attn.query", "attn.key", "attn.value"),
    "self_attention/linear_1": ("attn.out",),
    "attention/linear_0": ("cross_attn.query",),
    "attention/linear_1": ("cross_attn.key", "cross_attn.value"),
    "attention/linear_2": ("cross_attn.out",),
    "ffn/linear_0": ("mlp.0",),
    "ffn/linear_1": ("mlp.2",),
}
NORMS = {
    "self_attention/layer_norm": "attn_ln",
    "attention/layer_norm": "cross_attn_ln",
    "ffn/layer_norm": "mlp_ln",
}


def variables(state: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """The variables of a model of one layer and two heads."""
    found: dict[str, np.ndarray] = {}

    def norm(to: str, name: str) -> None:
        found[f"{to}/gamma"], found[f"{to}/beta"] = state[f"{name}.weight"], state[f"{name}.bias"]

    for part, last in (("encoder", "ln_post"), ("decoder", "ln")):
        block = f"{part}.blocks.0"
        for to, names in LINEAR.items():
            if f"{block}.{names[0]}.weight" in state:
                weights = [state[f"{block}.{name}.weight"] for name in names]
                zero = torch.zeros(len(weights[0]))
                biases = [state.get(f"{block}.{name}.bias", zero) for name in names]
                found[f"{part}/layer_0/{to}/weight"] = torch.cat(weights)
                found[f"{part}/layer_0/{to}/bias"] = torch.cat(biases)
        for to, name in NORMS.items():
            if f"{block}.{name}.weight" in state:
                norm(f"{part}/layer_0/{to}", f"{block}.{name}")
        norm(f"{part}/layer_norm", f"{part}.{last}")
        found[f"{part}/position_encodings/encodings"] = state[f"{part}.positional_embedding"]
        found[f"{part}/num_heads"] = torch.tensor(2, dtype=torch.int16)
    for name in ("conv1", "conv2"):
        for kind in ("weight", "bias"):
            found[f"encoder/{name}/{kind}"] = state[f"encoder.{name}.{kind}"]
    found["decoder/embeddings/weight"] = state["decoder.token_embedding.weight"]
    return {name: np.asarray(tensor.numpy()) for name, tensor in found.items()}


def text(value: str) -> bytes:
    return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"


def packed(found: dict[str, np.ndarray], spec: str = "WhisperSpec", version: int = 6) -> bytes:
    types = {"float32": 0, "int16": 2, "float16": 4}
    out = struct.pack("<I", version) + text(spec) + struct.pack("<II", 3, len(found))
    for name, array in found.items():
        out += text(name) + struct.pack("<B", array.ndim)
        out += struct.pack(f"<{array.ndim}I", *array.shape)
        out += struct.pack("<BI", types[str(array.dtype)], array.nbytes) + array.tobytes()
    alias = text("decoder/projection/weight") + text("decoder/embeddings/weight")
    return out + struct.pack("<I", 1) + alias


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tiny_whisper(tmp_path_factory.mktemp("whisper") / "tiny.pt", n_vocab=60)
    saved: dict[str, Any] = torch.load(path, weights_only=True)
    return saved


def test_every_tensor_comes_to_its_place(tiny: dict[str, Any], tmp_path: Path) -> None:
    whole = packed(variables(tiny["model_state_dict"]))
    parts = [tmp_path / "one", tmp_path / "two"]  # joined, wherever they were cut
    parts[0].write_bytes(whole[:1001])
    parts[1].write_bytes(whole[1001:])
    convert_whisper(parts, tmp_path)
    found = torch.load(tmp_path / "model.pt", weights_only=True)
    assert found["dims"] == tiny["dims"]
    assert found["model_state_dict"].keys() == tiny["model_state_dict"].keys()
    for name, tensor in tiny["model_state_dict"].items():
        torch.testing.assert_close(found["model_state_dict"][name], tensor, rtol=0, atol=0)
    assert whisper.load_model(str(tmp_path / "model.pt"), device="cpu").dims.n_vocab == 60


def test_the_precision_stays(tiny: dict[str, Any], tmp_path: Path) -> None:
    halves = {
        name: array.astype(np.float16) if array.dtype == np.float32 else array
        for name, array in variables(tiny["model_state_dict"]).items()
    }
    (tmp_path / "model.bin").write_bytes(packed(halves))
    convert_whisper([tmp_path / "model.bin"], tmp_path)
    state = torch.load(tmp_path / "model.pt", weights_only=True)["model_state_dict"]
    assert {tensor.dtype for tensor in state.values()} == {torch.float16}


def with_biased_keys(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    name = "encoder/layer_0/self_attention/linear_0/bias"
    return found | {name: np.ones_like(found[name])}


def without(found: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    return {key: value for key, value in found.items() if key != name}


WRONG = {
    "another kind": (lambda v: packed(v, "TransformerSpec"), "holds 'TransformerSpec' in version"),
    "version": (lambda v: packed(v, version=7), "in version 7"),
    "keys": (lambda v: packed(with_biased_keys(v)), "has biases of keys"),
    "a tensor short": (lambda v: packed(without(v, "encoder/conv1/bias")), "encoder.conv1.bias"),
    "no sizes": (lambda v: packed(without(v, "encoder/num_heads")), "not a Whisper of CTransl"),
    "longer": (lambda v: packed(v) + b"more", "4 bytes follow the last variable"),
    "nothing": (lambda v: b"", "ends after 0 bytes"),
    "no such file": (lambda v: b"no such file" * 9, "not a Whisper|ends after"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_whisper_is_one_clear_line(
    tiny: dict[str, Any], tmp_path: Path, name: str
) -> None:
    make, message = WRONG[name]
    (tmp_path / "model.bin").write_bytes(make(variables(tiny["model_state_dict"])))
    with pytest.raises(ArtifactError, match=r"model\.bin: ") as caught:
        convert_whisper([tmp_path / "model.bin"], tmp_path)
    assert re.search(message, str(caught.value)) and not (tmp_path / "model.pt").exists()


def test_a_file_that_is_cut_anywhere_is_refused(tiny: dict[str, Any], tmp_path: Path) -> None:
    whole = packed(variables(tiny["model_state_dict"]))
    for size in (*range(0, 120, 7), *range(120, len(whole), len(whole) // 20)):
        (tmp_path / "model.bin").write_bytes(whole[:size])
        with pytest.raises(ArtifactError, match=r"model\.bin: "):
            convert_whisper([tmp_path / "model.bin"], tmp_path)
