"""Small media files, made on the spot."""

import io
import struct
import wave
import zlib
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
from PIL import Image


def picture(colour: str | tuple[int, int, int] = "red", size: tuple[int, int] = (32, 24)) -> bytes:
    """A PNG of one colour."""
    return encoded(Image.new("RGB", size, colour), "PNG")


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def huge_png(path: Path, side: int) -> Path:
    """A whole, valid black-and-white PNG of ``side`` x ``side`` pixels, small on disk."""

    def chunk(name: bytes, body: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + crc

    packer, row = zlib.compressobj(1), bytes(1 + (side + 7) // 8)
    body = b"".join(packer.compress(row * 100) for _ in range(side // 100)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    return path


def video(
    path: Path,
    draw: Callable[[int], np.ndarray],
    n: int,
    *,
    rate: int = 8,
    key_frames: int = 12,
) -> Path:
    """A clip of ``n`` frames; ``draw(number)`` gives uint8 ``[height, width, 3]``."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=rate)
        stream.height, stream.width = draw(0).shape[:2]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 2_000_000
        stream.codec_context.gop_size = key_frames
        for number in range(n):
            frame = av.VideoFrame.from_ndarray(draw(number), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def shade(value: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)


def sound(path: Path, samples: np.ndarray, rate: int = 16_000) -> Path:
    """A 16-bit WAV; ``samples`` float ``[n]`` or ``[n, channels]`` in [-1, 1]."""
    values = (np.clip(samples, -1, 1) * 32767).astype("<i2")
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1 if values.ndim == 1 else values.shape[1])
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(values.tobytes())
    return path


def tone(seconds: float, hertz: float = 440.0, rate: int = 16_000) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)
