"""A picture file to an RGB picture, whatever its name ends in.

The pixel count is read from the header and checked before anything is decoded, so a small file
that would unpack to gigabytes costs nothing. Only formats that Pillow decodes by itself are
tried (no PostScript, which would start another program).
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmrec.content.media.errors import MediaError, TooLargeError, UndecodableError, one_line
from llmrec.errors import require

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 50_000_000  # 150 MB as RGB; more than any camera phone makes without stitching
FORMATS = ("JPEG", "MPO", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "ICO", "PPM")


def decode_image(source: Path | bytes, *, max_pixels: int = MAX_PIXELS) -> Image:
    """Decode a picture.

    The first frame of an animation, turned upright by its EXIF orientation, what is transparent
    on white, 16 bits a channel brought to 8.

    Args:
        source: a file or its bytes.
        max_pixels: width times height above which a picture is refused, before decoding.

    Returns:
        A Pillow image of mode ``RGB``.

    Raises:
        TooLargeError: if it has more than ``max_pixels`` pixels.
        UndecodableError: if it is no picture, or damaged.
    """
    pil = require("PIL.Image", "media")
    stream: Any = io.BytesIO(source) if isinstance(source, bytes) else source
    pil.init()  # registers all formats, once
    formats = [name for name in FORMATS if name in pil.OPEN]  # AVIF depends on the build
    bombs = (pil.DecompressionBombError, pil.DecompressionBombWarning)
    try:
        with pil.open(stream, formats=formats) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise TooLargeError(f"{width} x {height} pixels, at most {max_pixels:,} are read")
            image.seek(0)
            return _rgb(_upright(image))
    except MediaError:
        raise
    except bombs:
        raise TooLargeError(f"more than the {max_pixels:,} pixels that are read") from None
    except pil.UnidentifiedImageError:
        raise UndecodableError("not a picture in a format that is read") from None
    # Damaged files make decoders raise nearly anything: OSError, SyntaxError, struct.error, ...
    except Exception as error:
        raise UndecodableError(f"damaged picture ({one_line(error)})") from None


def _upright(image: Image) -> Image:
    """Turned as the camera was held; a damaged EXIF block leaves the picture as stored."""
    image.load()
    ops = require("PIL.ImageOps", "media")
    try:
        turned: Image = ops.exif_transpose(image)
    except Exception:  # a picture is worth having without its EXIF
        return image
    return turned


def _rgb(image: Image) -> Image:
    pil = require("PIL.Image", "media")
    if image.mode.startswith("I") or image.mode == "F":
        return pil.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if image.mode in ("LA", "PA", "RGBA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = pil.new("RGBA", image.size, "white")
        return pil.alpha_composite(white, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """One channel of 16 or 32 bits as uint8; Pillow's own conversion would clip at 255."""
    values = np.nan_to_num(values.astype(np.float32))
    highest = float(values.max(initial=0))
    # 16-bit files keep their scale; other ranges have none to keep
    scale = 255 / (65535 if 255 < highest <= 65535 else max(highest, 255))
    return (values * scale).clip(0, 255).round().astype(np.uint8)
