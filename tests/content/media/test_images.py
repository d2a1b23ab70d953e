"""Pictures of every kind become RGB; bad ones become one short reason."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av", reason="needs the media extra")

from made_media import encoded, huge_png, lying_avif, lying_icon, lying_tiff, picture
from peak_memory import peak_growth_mib
from PIL import Image, features

from llmrec.content.media.errors import MediaError, TooLargeError, UndecodableError
from llmrec.content.media.images import decode_image


def test_a_picture_of_one_pixel_is_read() -> None:
    image = decode_image(picture("blue", (1, 1)))
    assert image.mode == "RGB" and image.size == (1, 1) and image.getpixel((0, 0)) == (0, 0, 255)


def test_a_file_is_read_for_what_it_holds_not_for_its_name(tmp_path: Path) -> None:
    (tmp_path / "shoe.jpg").write_bytes(picture("red"))
    assert decode_image(tmp_path / "shoe.jpg").getpixel((3, 3)) == (255, 0, 0)
    (tmp_path / "page.jpg").write_text("<html>not found</html>")
    with pytest.raises(UndecodableError, match="not a picture"):
        decode_image(tmp_path / "page.jpg")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF"])
def test_a_truncated_picture_is_refused(kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    whole = encoded(Image.fromarray(noise), kind)
    with pytest.raises(UndecodableError) as caught:
        decode_image(whole[: int(len(whole) * share)])
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250


def test_flipped_bytes_never_raise_anything_else() -> None:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8))
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"):
        whole = np.frombuffer(encoded(noise, kind), np.uint8)
        for _ in range(40):
            bad = whole.copy()
            bad[rng.integers(0, len(bad), 8)] = rng.integers(0, 255, 8)
            try:
                assert decode_image(bad.tobytes()).mode == "RGB"
            except MediaError:
                continue


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    path = huge_png(tmp_path / "bomb.png", 30_000)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(TooLargeError, match=r"30000 x 30000 pixels|more than the 50,000,000"):
        decode_image(path)
    code = (
        "from llmrec.content.media.errors import TooLargeError\n"
        "from llmrec.content.media.images import decode_image\n"
        f"try: decode_image(Path({str(path)!r}))\n"
        "except TooLargeError: pass\n"
        "else: raise SystemExit('it was decoded')\n"
    )
    ready = "import PIL.Image, llmrec.content.media.images; PIL.Image.init()"
    assert peak_growth_mib(ready, code) < 20  # 858 MiB decoded


def lying_pictures(side: int) -> dict[str, bytes]:
    """Pictures that claim to be smaller than what is in them."""
    square = Image.new("L", (side, side))
    gif = bytearray(encoded(square, "GIF"))
    gif[6:10] = struct.pack("<HH", 16, 16)
    mask = bytes(side * side // 8)
    bmp = encoded(square.convert("1"), "BMP")[14:]
    bmp = bmp[:8] + struct.pack("<i", 2 * side) + bmp[12:] + mask
    lying = {
        "icon of a PNG": lying_icon(encoded(square, "PNG")),
        "icon of a BMP": lying_icon(bmp),
        "GIF": bytes(gif),
        "TIFF": lying_tiff(side),
    }
    return lying | ({"AVIF": lying_avif(side)} if features.check("avif") else {})


def test_what_is_inside_of_a_picture_may_not_be_larger_either() -> None:
    for name, content in lying_pictures(1024).items():
        with pytest.raises(MediaError, match=r"at most 1,000,000|more than the|more pixels"):
            print(name, decode_image(content, max_pixels=1_000_000).size)


def test_an_icon_of_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    png = huge_png(tmp_path / "bomb.png", 12_900).read_bytes()
    path = tmp_path / "bomb.ico"
    path.write_bytes(lying_icon(png))
    code = (
        "from llmrec.content.media.errors import TooLargeError\n"
        f"try: decode_image(Path({str(path)!r}))\n"
        "except TooLargeError: pass\n"
        "else: raise SystemExit('it was decoded')\n"
    )
    ready = (
        "from llmrec.content.media.images import decode_image\n"
        "import PIL.Image, PIL.IcoImagePlugin; PIL.Image.init()"
    )
    assert peak_growth_mib(ready, code) < 15  # 159 MiB decoded


def test_a_true_icon_is_read() -> None:
    for kind in ("png", "bmp"):
        icon = encoded(Image.new("RGB", (32, 32), "red"), "ICO", bitmap_format=kind)
        assert decode_image(icon).getpixel((5, 5)) == (255, 0, 0)


def test_the_limit_of_pixels_is_the_callers() -> None:
    assert decode_image(picture(size=(10, 10)), max_pixels=100).size == (10, 10)
    with pytest.raises(TooLargeError, match="11 x 10 pixels, at most 100"):
        decode_image(picture(size=(11, 10)), max_pixels=100)


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    moving = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100)
    assert decode_image(moving).getpixel((4, 4)) == (255, 0, 0)


def test_cmyk_becomes_the_colour_it_prints() -> None:
    red = decode_image(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"))
    assert red.mode == "RGB"
    np.testing.assert_allclose(red.getpixel((4, 4)), (255, 0, 0), atol=4)


def test_sixteen_bits_keep_their_shades() -> None:
    ramp = np.linspace(0, 65535, 256, dtype=np.uint16).reshape(1, -1).repeat(4, 0)
    read = np.asarray(decode_image(encoded(Image.fromarray(ramp), "PNG")))
    np.testing.assert_allclose(read[0, :, 0], np.arange(256), atol=1)


def test_a_palette_and_what_is_transparent_become_plain_colours() -> None:
    palette = Image.new("RGB", (8, 8), (10, 200, 30)).convert("P", palette=Image.Palette.ADAPTIVE)
    assert decode_image(encoded(palette, "PNG")).getpixel((2, 2)) == (10, 200, 30)
    glass = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    glass.putpixel((0, 0), (255, 0, 0, 255))
    read = decode_image(encoded(glass, "PNG"))
    assert read.getpixel((0, 0)) == (255, 0, 0) and read.getpixel((5, 5)) == (255, 255, 255)
    hole = Image.new("P", (4, 4), 0)
    hole.putpalette([0, 0, 0, 255, 255, 255])
    assert decode_image(encoded(hole, "GIF", transparency=0)).getpixel((1, 1)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I", "F", "YCbCr", "LAB"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    kind = {"LA": "PNG", "YCbCr": "JPEG", "1": "PNG", "L": "PNG"}.get(mode, "TIFF")
    assert decode_image(encoded(Image.new(mode, (4, 4)), kind)).mode == "RGB"


def test_a_picture_is_turned_upright() -> None:
    image = Image.new("RGB", (20, 10), "blue")
    image.paste("red", (0, 0, 10, 10))  # the left half
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the left side is up
    read = decode_image(encoded(image, "PNG", exif=exif))
    assert read.size == (10, 20)
    assert read.getpixel((5, 2)) == (255, 0, 0) and read.getpixel((5, 17)) == (0, 0, 255)


def test_real_photos_are_read(shared_data: Path) -> None:
    photos = sorted((shared_data / "clothing").rglob("*.jpg"))[:8]
    if not photos:
        pytest.skip("no clothing photos in the real data")
    for photo in photos:
        assert decode_image(photo).size == Image.open(io.BytesIO(photo.read_bytes())).size
