"""Open a video or sound file with FFmpeg so that it can read nothing else.

FFmpeg follows what is in a file: playlists name other files and addresses, and a name may be a
protocol. So files are handed over as streams, only plain containers are probed, and every
attempt to open something else is refused.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmrec.content.media.errors import EmptyMediaError, UndecodableError, one_line
from llmrec.errors import require

MAX_PIXELS = 50_000_000  # 150 MB as RGB; more than any camera phone makes without stitching
_log = logging.getLogger(__name__)

# By FFmpeg's names. No hls, dash, concat or image2: they open further files.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,h264,hevc,m4v,flv,asf,gif,"
    "ogg,wav,w64,flac,mp3,aac,ac3,eac3,aiff,amr,caf,au,ape,tta,wv,rm,nut,ivf,apng"
)


@contextmanager
def opened(source: Path | bytes, max_pixels: int = MAX_PIXELS) -> Iterator[Any]:
    """A PyAV input container over a file or its bytes.

    Args:
        source: a file or its bytes.
        max_pixels: width times height above which FFmpeg decodes no frame, not even the ones that
            it looks at to know what is in the file.

    Raises:
        UndecodableError: if it is in no container that is read, or what is done with it fails
            because it is damaged.
    """
    av, limit = require("av", "media"), {"max_pixels": str(max_pixels)}
    with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as stream:
        try:
            container = av.open(
                stream,
                mode="r",
                options={
                    "format_whitelist": _CONTAINERS,
                    "protocol_whitelist": "none",
                    **limit,
                },
                io_open=_refuse,
            )
        # FFmpeg's own errors, and OSError or ValueError for a file that only looks like one
        except (av.FFmpegError, OSError, ValueError) as error:
            raise UndecodableError(f"not a media file that is read ({one_line(error)})") from None
        with container:
            for track in container.streams.video:
                track.codec_context.options = limit
            try:
                yield container
            except (av.FFmpegError, ValueError) as error:
                raise UndecodableError(f"damaged ({one_line(error)})") from None


def decoded(container: Any, stream: Any) -> Iterator[Any]:
    """The frames of a stream in order; damaged packets are left out, a broken end is the end.

    Raises:
        UndecodableError: if there are packets, but not one frame comes out of them.
        EmptyMediaError: if there are no packets at all.
    """
    av = require("av", "media")
    frames, failure, packets = 0, None, container.demux(stream)
    n_packets = 0
    while True:
        try:
            packet = next(packets)
            n_packets += packet.size > 0
            for frame in packet.decode():
                frames += 1
                yield frame
        except (StopIteration, EOFError):
            break
        except (av.FFmpegError, ValueError) as error:
            failure = error
            # A failed read ends the iterator; a failed decode leaves it at the next packet.
    if not frames and not n_packets and failure is None:
        raise EmptyMediaError(f"the {stream.type} stream is empty")
    if not frames:
        reason = f" ({one_line(failure)})" if failure else ""
        size = ", or has more pixels than are read" if stream.type == "video" else ""
        raise UndecodableError(f"not one {stream.type} frame can be decoded: damaged{size}{reason}")
    if failure is not None:
        _log.debug("damaged %s stream: %d frames, then %s", stream.type, frames, failure)


def _refuse(url: str, flags: int, options: dict[str, str]) -> Any:
    raise OSError("a media file may not open other files")
