"""A picture file to an RGB picture, whatever its name ends in.

The pixel count is read from the header and checked before anything is decoded, so a small file
that would unpack to gigabytes costs nothing; so is the count of what stands inside of another: the
picture of an icon, the tiles of a TIFF, the frame of an AVIF. Only formats that Pillow decodes by
itself are tried (no PostScript, which would start another program).
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from llmrec.content.media.container import MAX_PIXELS, decoded, opened
from llmrec.content.media.errors import MediaError, TooLargeError, UndecodableError, one_line
from llmrec.errors import require

if TYPE_CHECKING:
    from PIL.Image import Image

_ICON = b"\0\0\1\0"
_TILE_WIDTH, _TILE_LENGTH = 322, 323  # tags of TIFF
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
    pil.init()  # registers all formats, once
    formats = [name for name in FORMATS if name in pil.OPEN]  # AVIF depends on the build
    bombs = (pil.DecompressionBombError, pil.DecompressionBombWarning)
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as stream:
            if stream.read(4) == _ICON:
                _check_pixels(_icon_size(stream), max_pixels)
            with pil.open(stream, formats=formats) as image:
                _check_pixels(image.size, max_pixels)
                _check_pixels(_tile_size(image), max_pixels)
                if image.format == "AVIF":
                    _check_frame(source, max_pixels)
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


def _check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise TooLargeError(f"{width} x {height} pixels, at most {max_pixels:,} are read")


def _icon_size(stream: BinaryIO) -> tuple[int, int]:
    """Of the picture in an icon that Pillow would choose.

    The icon states a size of its own, and Pillow decodes while it opens.
    """
    stream.seek(0)
    start = require("PIL.IcoImagePlugin", "media").IcoFile(stream).entry[0].offset
    stream.seek(start)
    is_png = stream.read(4) == b"\x89PNG"
    stream.seek(start)
    if is_png:
        width, height = require("PIL.PngImagePlugin", "media").PngImageFile(stream).size
        return width, height
    width, height = require("PIL.BmpImagePlugin", "media").DibImageFile(stream).size
    return width, height // 2  # its mask stands below it


def _tile_size(image: Image) -> tuple[int, int]:
    """Of the pieces that a TIFF is decoded in, which may be larger than it."""
    tags = getattr(image, "tag_v2", {})
    return tags.get(_TILE_WIDTH, 0), tags.get(_TILE_LENGTH, 0)


def _check_frame(source: Path | bytes, max_pixels: int) -> None:
    """Refuse an AVIF whose frame is larger than it states: FFmpeg can be told a limit.

    Raises:
        UndecodableError: if it is, or FFmpeg cannot read it.
    """
    with opened(source, max_pixels) as container:
        next(decoded(container, container.streams.video[0]))


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
