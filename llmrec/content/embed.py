"""``llmrec embed`` and ``llmrec embed media``: vectors of every item.

    llmrec embed --dataset runs/beauty/dataset --out runs/beauty/features --fields title
    llmrec embed --dataset runs/shop/dataset --out runs/shop/features --media-root data/media \\
        --clip lit --whisper whisper-tiny.en

The second also writes ``media_features`` beside ``features``: what ``llmrec embed media`` makes,
which has more settings. Where no CLIP is named, one is made first of the shop's own pictures and
words (:mod:`llmrec.content.clip`); its folder is beside the vectors. What the folders hold is said
by :mod:`llmrec.content.features.text` and :mod:`llmrec.content.features.media`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from llmrec.content.clip.run import run as train_clip
from llmrec.content.clip.settings import LIT, ClipConfig
from llmrec.content.features.media import run as embed_with
from llmrec.content.features.modalities import EmbedMediaConfig
from llmrec.content.features.models import WHISPER
from llmrec.content.features.text import EmbedConfig
from llmrec.content.features.text import run as embed_text
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError

_SEEN = ("image", "video")  # columns and modalities that need a CLIP


def run(
    config: EmbedConfig,
    dataset: Path,
    out: Path,
    *,
    enhanced: Path | None = None,
    seed: int = 0,
    clip: str | None = None,
    whisper: str | None = None,
    media_root: Path | None = None,
    media_out: Path | None = None,
) -> Path:
    """Embed every item of ``dataset`` into the folder ``out``.

    Args:
        config: settings.
        dataset: folder of ``llmrec ingest``.
        out: folder to write.
        enhanced: folder of ``llmrec enhance``: vectors of what it wrote, the block ``enhanced``.
        seed: of the attributes' SVD, and of a CLIP that is made.
        clip: a CLIP that embeds pictures and videos too; ``lit`` makes one of the shop's own.
        whisper: a Whisper that embeds recordings too.
        media_root: where paths of the catalogue start.
        media_out: folder of their vectors; ``media_features`` beside ``out`` when None.

    Raises:
        CatalogError: if the dataset has no items.
        ConfigError, MissingExtraError: if a model cannot be loaded.
    """
    if (media_root or media_out) and not (clip or whisper):
        raise ConfigError("--media-root and --media-out go with --clip MODEL or --whisper MODEL")
    embed_text(config, dataset, out, enhanced=enhanced, seed=seed)
    if clip or whisper:
        modalities = (*(_SEEN if clip else ()), *(("speech",) if whisper else ()))
        named = "" if clip in (None, LIT) else clip
        embed_media(
            EmbedMediaConfig(modalities, named, speech_model=whisper or WHISPER),
            dataset,
            media_out or Path(out).parent / "media_features",
            media_root=media_root,
            seed=seed,
        )
    return Path(out)


def embed_media(
    config: EmbedMediaConfig,
    dataset: Path,
    out: Path,
    *,
    media_root: Path | None = None,
    cache: Path | None = None,
    seed: int = 0,
) -> Path:
    """Embed the media of every item of ``dataset`` into the folder ``out``.

    Args:
        config: settings.
        dataset: folder of ``llmrec ingest``.
        out: folder to write; a CLIP that is made goes beside it, into ``OUT_clip``.
        media_root: where paths of the catalogue start.
        cache: where downloads are kept; ``media_cache`` beside ``out`` when None.
        seed: of a CLIP that is made.

    Raises:
        CatalogError: if the dataset has no items, or none of them has media.
        ConfigError, MissingExtraError: if a model cannot be loaded, or ``media_root`` is missing.
    """
    if not config.image_model and _has_pictures(Path(dataset), config):
        clip = train_clip(
            ClipConfig(device=config.device, workers=config.workers, max_pixels=config.max_pixels),
            dataset,
            Path(out).with_name(f"{Path(out).name}_clip"),
            media_root=media_root,
            seed=seed,
        )
        config = replace(config, image_model=str(clip))
    return embed_with(config, dataset, out, media_root=media_root, cache=cache, seed=seed)


def _has_pictures(dataset: Path, config: EmbedMediaConfig) -> bool:
    items = Dataset(dataset).items
    wanted = [name for name in _SEEN if name in config.modalities and name in items.column_names]
    return any(value for name in wanted for value in items[name].to_pylist())
