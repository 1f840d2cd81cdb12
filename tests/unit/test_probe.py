"""Films and sounds: what they have is measured, and what is cut off or is none is refused."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.media import probe
from shared.media.probe import NotMedia, Probe
from tests.unit.films import FILMS, SOUNDS, film, sound


def sample(media_type: str) -> bytes:
    return film(media_type) if media_type in FILMS else sound(media_type)


@pytest.mark.parametrize("media_type", FILMS)
def test_a_film_has_a_length_and_a_size(media_type: str) -> None:
    assert probe.measure(io.BytesIO(film(media_type)), media_type) == Probe(3.0, 64, 48)


@pytest.mark.parametrize("media_type", SOUNDS)
def test_a_sound_has_a_length(media_type: str) -> None:
    found = probe.measure(io.BytesIO(sound(media_type)), media_type)

    assert found.duration_s == pytest.approx(3, abs=0.1)
    assert (found.width, found.height) == (None, None)


@pytest.mark.parametrize("media_type", ["audio/wav", "audio/flac", "audio/mpeg"])
def test_a_sound_shorter_than_a_second_is_a_sound(media_type: str) -> None:
    data = sound(media_type, 0.25)

    assert probe.measure(io.BytesIO(data), media_type).duration_s == pytest.approx(0.25, abs=0.1)


@pytest.mark.parametrize("media_type", [*FILMS, *SOUNDS])
@pytest.mark.parametrize("part", [0.3, 0.6])
def test_a_truncated_file_is_no_media(media_type: str, part: float) -> None:
    data = sample(media_type)

    with pytest.raises(NotMedia):
        probe.measure(io.BytesIO(data[: int(len(data) * part)]), media_type)


@pytest.mark.parametrize("media_type", ["audio/wav", "audio/ogg"])
def test_a_sound_that_lacks_its_last_bytes_is_no_media(media_type: str) -> None:
    data = sound(media_type)

    for missing in (1, 40, 400):
        with pytest.raises(NotMedia, match="the file ends"):
            probe.measure(io.BytesIO(data[:-missing]), media_type)


def sized(riff: int, sound_bytes: int) -> bytes:
    """A WAV of three seconds with these sizes in its header."""
    data = bytearray(sound("audio/wav"))
    at = data.index(b"data") + 4
    data[4:8], data[at : at + 4] = riff.to_bytes(4, "little"), sound_bytes.to_bytes(4, "little")
    return bytes(data)


@pytest.mark.parametrize(
    ("riff", "sound_bytes"),
    [
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0xFFFFFFFF, 0xFFFFFFFF - 70),
        (0x7FFFFFFF, 0x7FFFFFFF),
        (2_000_000_036, 2_000_000_000),
        (0, 0),
    ],
)
def test_a_wav_that_was_streamed_without_its_size_is_a_sound(riff: int, sound_bytes: int) -> None:
    assert probe.measure(io.BytesIO(sized(riff, sound_bytes)), "audio/wav").duration_s == 3


def test_what_follows_the_sound_of_a_wav_does_no_harm() -> None:
    data = sound("audio/wav") + b"LIST\x04\x00\x00\x00INFO"

    assert probe.measure(io.BytesIO(data), "audio/wav").duration_s == 3


@pytest.mark.parametrize("kind", ["libopus", "flac"])
def test_an_ogg_of_any_codec_ends_with_a_whole_page(kind: str) -> None:
    data = sound("audio/ogg", codec=kind)

    assert probe.measure(io.BytesIO(data), "audio/ogg").duration_s == pytest.approx(3, abs=0.1)
    with pytest.raises(NotMedia, match="within a page"):
        probe.measure(io.BytesIO(data[:-1]), "audio/ogg")


def test_an_ogg_whose_sound_looks_like_a_page_ends_where_it_ends() -> None:
    data = sound("audio/ogg")
    last = data.rindex(b"OggS")
    body = last + 27 + data[last + 26]
    looks_so = data[:body] + b"OggS" + data[body + 4 :]

    assert probe._ends_with_a_page(looks_so)


@pytest.mark.parametrize("part", [0.5, 0.7])
def test_a_film_whose_index_promises_more_than_there_is_is_no_media(part: float) -> None:
    data = film(scenes=((0, 2.0), (1, 2.0), (2, 2.0)), fast=True)

    assert probe.measure(io.BytesIO(data), "video/mp4").duration_s == 6
    with pytest.raises(NotMedia):
        probe.measure(io.BytesIO(data[: int(len(data) * part)]), "video/mp4")


def test_a_film_without_sound_is_no_sound() -> None:
    with pytest.raises(NotMedia, match="has no audio"):
        probe.measure(io.BytesIO(film()), "audio/mp4")


def test_a_sound_without_picture_is_no_film() -> None:
    with pytest.raises(NotMedia, match="has no video"):
        probe.measure(io.BytesIO(sound("audio/mp4")), "video/mp4")


@pytest.mark.parametrize(
    "playlist", [b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n", b"ffconcat version 1.0\nfile x\n"]
)
@pytest.mark.parametrize("media_type", sorted(probe.DEMUXERS))
def test_a_file_that_names_other_files_opens_none(playlist: bytes, media_type: str) -> None:
    with pytest.raises(NotMedia):
        probe.measure(io.BytesIO(playlist), media_type)


@given(st.binary(max_size=200), st.sampled_from(sorted(probe.DEMUXERS)))
def test_no_bytes_make_anything_but_a_probe_or_a_refusal(data: bytes, media_type: str) -> None:
    try:
        probe.measure(io.BytesIO(data), media_type)
    except NotMedia:
        return
