"""Frames: sampled evenly, and what shows the same as the one before is dropped."""

import io

import pytest
from PIL import Image

from shared.media import frames
from shared.media.frames import LONGEST_SIDE, SAME_WITHIN_BITS, NoFrames, dhash
from tests.unit.films import FILMS, film, picture, sound


def times(data: bytes, every_s: float) -> list[float]:
    return [frame.at for frame in frames.sample(io.BytesIO(data), every_s=every_s)]


def apart(one: Image.Image, other: Image.Image) -> int:
    return (dhash(one) ^ dhash(other)).bit_count()


@pytest.mark.parametrize("media_type", FILMS)
def test_a_scene_that_does_not_change_is_one_frame(media_type: str) -> None:
    assert times(film(media_type), 0.5) == [0.0]


@pytest.mark.parametrize("media_type", FILMS)
def test_every_scene_has_its_frame(media_type: str) -> None:
    assert times(film(media_type, ((0, 2.0), (1, 1.0), (2, 1.0))), 0.5) == [0.0, 2.0, 3.0]


def test_a_scene_that_comes_back_is_another_frame() -> None:
    assert times(film(scenes=((0, 1.0), (1, 1.0), (0, 1.0))), 0.5) == [0.0, 1.0, 2.0]


def test_what_changes_between_two_samples_is_not_seen() -> None:
    scenes = tuple((number % 2, 0.5) for number in range(8))

    assert times(film(scenes=scenes), 1.0) == [0.0]
    assert len(times(film(scenes=scenes), 0.5)) == 8


def test_a_frame_is_a_small_jpeg() -> None:
    (frame,) = frames.sample(io.BytesIO(film()), every_s=1)

    with Image.open(io.BytesIO(frame.jpeg)) as image:
        assert (image.format, image.size) == ("JPEG", (64, 48))


def test_no_frame_is_larger_than_a_model_needs() -> None:
    with Image.open(io.BytesIO(frames._jpeg(picture(0, (1920, 1080))))) as image:
        assert image.size == (LONGEST_SIDE, 288)


def test_the_fingerprint_survives_scaling_and_compression_and_tells_pictures_apart() -> None:
    original = picture(0, (640, 480))
    compressed = io.BytesIO()
    original.save(compressed, "JPEG", quality=30)

    assert apart(original, original.resize((320, 240))) <= SAME_WITHIN_BITS
    with Image.open(compressed) as image:
        assert apart(original, image) <= SAME_WITHIN_BITS
    for number in range(1, 4):
        assert apart(original, picture(number, (640, 480))) > 2 * SAME_WITHIN_BITS


def test_the_fingerprint_is_where_it_gets_brighter() -> None:
    rising = Image.new("L", (9, 8))
    rising.putdata([column * 20 for _ in range(8) for column in range(9)])

    assert dhash(rising) == 2**64 - 1
    assert dhash(rising.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) == dhash(Image.new("L", (9, 8))) == 0


@pytest.mark.parametrize("data", [b"", b"x" * 500, sound(), film()[:500]], ids=["empty", "rubbish", "sound", "cut off"])
def test_a_file_without_a_picture_has_no_frames(data: bytes) -> None:
    with pytest.raises(NoFrames):
        times(data, 1.0)


def test_a_playlist_opens_no_other_file() -> None:
    with pytest.raises(NoFrames):
        times(b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n", 1.0)
