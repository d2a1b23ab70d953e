"""A model's settings fit its weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from llmrec.content.features.models import check_layers
from llmrec.errors import ArtifactError


def write(folder: Path, config: Any, name: str = "config.json") -> Path:
    """A model of two tensors, in two files."""
    for number in range(2):
        save_file({"w": np.zeros(1, np.float32)}, folder / f"model-{number}.safetensors")
    (folder / name).write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"num_hidden_layers": 3}, "num_hidden_layers"),
        ({"text_config": {"num_hidden_layers": 3}}, "num_hidden_layers"),
        ({"vision_cfg": {"layers": 100_000}}, "layers"),
    ],
)
def test_more_layers_than_tensors_are_refused(tmp_path: Path, config: Any, name: str) -> None:
    write(tmp_path, config)
    with pytest.raises(ArtifactError, match=rf"config\.json: {name} is .* have only 2 tensors"):
        check_layers(tmp_path)


@pytest.mark.parametrize("config", [{"layers": 2}, {"layers": [3, 4, 6, 3]}, [], {"depth": None}])
def test_what_can_be_is_let_through(tmp_path: Path, config: Any) -> None:
    check_layers(write(tmp_path, config, "shape.json"), "shape.json")


def test_what_is_no_folder_of_safetensors_is_let_through(tmp_path: Path) -> None:
    check_layers("owner/model")
    (tmp_path / "config.json").write_text('{"layers": 3}')
    check_layers(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    check_layers(tmp_path)
