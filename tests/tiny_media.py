"""Tiny models of the real classes and formats, random, and a catalogue with media."""

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from llmrec.stage import Manifest, writing

CLIP_CONFIG = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def tiny_clip(folder: Path) -> Path:
    """A CLIP as open_clip keeps it in a folder."""
    import torch
    from open_clip.model import CLIP
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = CLIP(**CLIP_CONFIG)  # type: ignore[arg-type]
    folder.mkdir()
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    config = {"model_cfg": CLIP_CONFIG, "preprocess_cfg": {"size": 32}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


def tiny_whisper(path: Path, n_vocab: int = 51865) -> Path:
    """A Whisper with a decoder, as openai-whisper keeps it in a file."""
    import torch
    from whisper.model import ModelDimensions, Whisper

    torch.manual_seed(0)
    dims = ModelDimensions(80, 1500, 16, 2, 1, n_vocab, 32, 16, 2, 1)
    model = Whisper(dims)
    torch.nn.init.normal_(model.decoder.positional_embedding)  # it comes uninitialised
    torch.save({"dims": vars(dims), "model_state_dict": model.state_dict()}, path)
    return path


def write_media_catalogue(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """A dataset folder whose items have only what ``llmrec embed media`` reads."""
    schema = pa.schema([(name, pa.string()) for name in ("item_id", "image", "video", "audio")])
    named = [{"item_id": f"i{n}", **row} for n, row in enumerate(rows)]
    manifest = Manifest("ingest", {"format": "by hand"}, counts={"items": len(rows)})
    with writing(folder, manifest) as run:
        pq.write_table(pa.Table.from_pylist(named, schema), run.folder / "items.parquet")
    return folder


def picture(path: Path, colour: str) -> Path:
    Image.new("RGB", (40, 32), colour).save(path)
    return path


def clip(path: Path, colours: list[str]) -> Path:
    """A video, some frames of each colour."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for colour in colours:
            for _ in range(4):
                frame = av.VideoFrame.from_image(Image.new("RGB", (48, 32), colour))
                out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def sound(path: Path, hertz: float, seconds: float = 1.0, volume: float = 0.3) -> Path:
    """A tone in a 16 kHz WAV."""
    import wave

    wave_form = volume * np.sin(2 * np.pi * hertz * np.arange(int(seconds * 16_000)) / 16_000)
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes((wave_form * 32767).astype("<i2").tobytes())
    return path
