import time
from dataclasses import replace
from io import BytesIO

import pytest
from PIL import Image

from local.simulator.media import ImageFormat, Picture, frame, render

LIGHTHOUSE = Picture("a lighthouse at dusk", seed=7, index=0, width=768, height=432)


@pytest.mark.parametrize(
    ("ratio", "size"), [("1:1", (768, 768)), ("16:9", (768, 432)), ("9:16", (432, 768)), ("3:2", (768, 512))]
)
def test_the_long_side_is_768(ratio: str, size: tuple[int, int]) -> None:
    assert frame(ratio) == size


@pytest.mark.parametrize("ratio", ["wide", "16:0", "16:9:2", "-1:1", "1:1000"])
def test_what_is_no_ratio_is_refused(ratio: str) -> None:
    with pytest.raises(ValueError):
        frame(ratio)


@pytest.mark.parametrize(("kind", "pillow_name"), [("png", "PNG"), ("webp", "WEBP"), ("jpg", "JPEG")])
def test_a_picture_has_its_format_and_size(kind: ImageFormat, pillow_name: str) -> None:
    with Image.open(BytesIO(render(replace(LIGHTHOUSE, format=kind)))) as image:
        image.load()

        assert (image.format, image.size) == (pillow_name, (768, 432))


def test_pictures_differ_by_seed_prompt_and_index_and_repeat_otherwise() -> None:
    recipes = [
        LIGHTHOUSE,
        replace(LIGHTHOUSE, seed=8),
        replace(LIGHTHOUSE, index=1),
        replace(LIGHTHOUSE, caption="a harbour"),
    ]

    first = [render(recipe) for recipe in recipes]
    render.cache_clear()

    assert len(set(first)) == 4
    assert [render(recipe) for recipe in recipes] == first


@pytest.mark.parametrize("text", ["", "word " * 2_000, "x" * 5_000, "漢字 и кириллица 🏮"])
@pytest.mark.parametrize("size", [(16, 16), (768, 432), (16, 2048)])
def test_any_text_fits_any_size(text: str, size: tuple[int, int]) -> None:
    width, height = size

    with Image.open(BytesIO(render(Picture(text, 1, 0, width, height)))) as image:
        assert image.size == size


def test_a_picture_is_made_quickly() -> None:
    render(replace(LIGHTHOUSE, seed=1))

    started = time.process_time()
    for seed in range(100, 105):
        render(replace(LIGHTHOUSE, seed=seed, caption="a lighthouse " * 30))

    assert (time.process_time() - started) / 5 < 0.1
