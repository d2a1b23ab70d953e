"""Pictures in a grid with their captions."""

import numpy as np
import pytest
from PIL import Image

from llmrec.errors import ConfigError
from llmrec.metrics.contact_sheet import _fit, contact_sheet

RED, BLUE = (255, 0, 0), (0, 0, 255)


def test_pictures_stand_in_reading_order_with_their_captions_below(tmp_path):
    Image.new("RGB", (40, 20), BLUE).save(tmp_path / "blue.png")
    pictures = [Image.new("RGB", (64, 64), RED), tmp_path / "blue.png", Image.new("L", (9, 9))]
    sheet = contact_sheet(pictures, ["a red square", "", "black"], columns=2, cell=64, lines=1)
    pixels = np.asarray(sheet)
    middles = [(8 + 32, 8 + 32), (8 + 32, 8 + 72 + 32), (8 + 86 + 32, 8 + 32)]
    assert [tuple(pixels[y, x]) for y, x in middles] == [RED, BLUE, (0, 0, 0)]
    assert tuple(pixels[12, 8 + 72 + 32]) == (255, 255, 255)  # fitted, not stretched
    assert pixels[73:86, 8:72].min() < 100  # words
    assert pixels[73:86, 80:144].min() == 255  # none where there is no caption
    assert sheet.size == (2 * 72 + 8, 2 * 86 + 8)


def test_a_long_caption_is_wrapped_and_says_that_it_was_cut():
    assert _fit("one two three", width=8, lines=3) == "one two\nthree"
    assert _fit("one two three four five six", width=8, lines=2) == "one two\nthree..."
    assert _fit("mug\nred", width=20, lines=2) == "mug\nred"


@pytest.mark.parametrize("captions", [[], ["one", "two"]])
def test_captions_that_do_not_fit_the_pictures_are_refused(captions):
    with pytest.raises(ConfigError, match=f"1 pictures and {len(captions)} captions"):
        contact_sheet([Image.new("RGB", (8, 8))], captions)
