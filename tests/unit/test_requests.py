"""What may be asked for, and what a flaw points at."""

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.core.errors import Invalid
from shared.jobs import accept, batches, catalog
from shared.jobs.requests import (
    LARGEST_SEED,
    LONGEST_PROMPT,
    LONGEST_TEXT,
    OF_PROJECTS,
    REQUESTS,
    ImageRequest,
    PortraitRequest,
    Request,
    SilenceCuts,
    units,
)
from shared.media import assets
from shared.media.assets import Asset

URL = "https://example.com/x.mp4"
AN_ASSET = "as_" + "0" * 26


def pointers(body: dict[str, Any], kind: catalog.Kind = "image") -> list[str]:
    """What is wrong with a request, as JSON pointers; empty when nothing is."""
    try:
        accept.offer("alice", REQUESTS[kind].model_validate(body))
    except ValidationError as error:
        return ["/" + "/".join(str(part) for part in flaw["loc"]) for flaw in error.errors()]
    except Invalid as error:
        return [flaw["pointer"] for flaw in error.errors]
    return []


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "a lighthouse at dusk"},
        {"prompt": "x" * LONGEST_PROMPT},
        {"prompt": "  " + "x" * LONGEST_PROMPT + "  "},
        {"prompt": "🎨\n\ttabs and lines"},
        {"prompt": "x", "count": 4},
        {"prompt": "x", "seed": 0},
        {"prompt": "x", "seed": LARGEST_SEED},
        {"prompt": "x", "aspect_ratio": "16:9"},
        {"prompt": "x", "aspect_ratio": None},
        {"prompt": "x", "model": "flux-1.1-pro", "count": 1},
        {"prompt": "x", "metadata": {"order": "7"}},
        {"prompt": "x", "metadata": {str(number): "x" * 500 for number in range(20)}},
    ],
)
def test_a_good_request_is_taken(body: dict[str, Any]) -> None:
    assert pointers(body) == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, ["/prompt"]),
        ({"prompt": None}, ["/prompt"]),
        ({"prompt": ""}, ["/prompt"]),
        ({"prompt": "  \n\t "}, ["/prompt"]),
        ({"prompt": "x" * (LONGEST_PROMPT + 1)}, ["/prompt"]),
        ({"prompt": "a\x00b"}, ["/prompt"]),
        ({"prompt": "a\ud800b"}, ["/prompt"]),
        ({"prompt": 7}, ["/prompt"]),
        ({"prompt": ["x"]}, ["/prompt"]),
        ({"prompt": {"text": "x"}}, ["/prompt"]),
        ({"prompt": "x", "count": 0}, ["/count"]),
        ({"prompt": "x", "count": -1}, ["/count"]),
        ({"prompt": "x", "count": 5}, ["/count"]),
        ({"prompt": "x", "count": "2"}, ["/count"]),
        ({"prompt": "x", "count": 2.0}, ["/count"]),
        ({"prompt": "x", "count": True}, ["/count"]),
        ({"prompt": "x", "count": None}, ["/count"]),
        ({"prompt": "x", "count": 10**400}, ["/count"]),
        ({"prompt": "x", "model": "flux-1.1-pro", "count": 2}, ["/count"]),
        ({"prompt": "x", "aspect_ratio": "16x9"}, ["/aspect_ratio"]),
        ({"prompt": "x", "aspect_ratio": "1:1\n"}, ["/aspect_ratio"]),
        ({"prompt": "x", "aspect_ratio": "7:5"}, ["/aspect_ratio"]),
        ({"prompt": "x", "aspect_ratio": "21:9", "model": "flux-1.1-pro"}, ["/aspect_ratio"]),
        ({"prompt": "x", "aspect_ratio": 1.5}, ["/aspect_ratio"]),
        ({"prompt": "x", "seed": -1}, ["/seed"]),
        ({"prompt": "x", "seed": LARGEST_SEED + 1}, ["/seed"]),
        ({"prompt": "x", "seed": 1.5}, ["/seed"]),
        ({"prompt": "x", "model": "unknown"}, ["/model"]),
        ({"prompt": "x", "model": ""}, ["/model"]),
        ({"prompt": "x", "model": "flux-dev-portrait"}, ["/model"]),
        ({"prompt": "x", "model": "x" * 101}, ["/model"]),
        ({"prompt": "x", "model": 7}, ["/model"]),
        ({"prompt": "x", "promt": "y"}, ["/promt"]),
        ({"prompt": "x", "webhook": "https://evil.example"}, ["/webhook"]),
        ({"prompt": "x", "kind": "portrait"}, ["/kind"]),
        ({"prompt": "x", "metadata": []}, ["/metadata"]),
        ({"prompt": "x", "metadata": {"a": 1}}, ["/metadata/a"]),
        ({"prompt": "x", "metadata": {"a": "x" * 501}}, ["/metadata/a"]),
        ({"prompt": "x", "metadata": {"a": "\x00"}}, ["/metadata/a"]),
        ({"prompt": "x", "metadata": {str(number): "x" for number in range(21)}}, ["/metadata"]),
        ({"prompt": "", "count": 9, "seed": -1}, ["/prompt", "/count", "/seed"]),
    ],
    ids=lambda value: str(value)[:50].encode("ascii", "replace").decode(),
)
def test_every_flaw_of_a_request_has_a_pointer(body: dict[str, Any], expected: list[str]) -> None:
    assert sorted(pointers(body)) == sorted(expected)


@pytest.mark.parametrize("key", ["", "x" * 65, "a\x00"])
def test_a_metadata_key_has_1_to_64_characters(key: str) -> None:
    assert len(pointers({"prompt": "x", "metadata": {key: "x"}})) == 1


def test_blanks_around_a_prompt_are_not_part_of_it() -> None:
    assert ImageRequest(prompt="  a lighthouse \n").prompt == "a lighthouse"


@pytest.mark.parametrize(("kind", "request_type"), [("image", ImageRequest), ("portrait", PortraitRequest)])
def test_without_a_model_it_is_the_kinds_first(kind: catalog.Kind, request_type: type[ImageRequest]) -> None:
    assert request_type(prompt="x").chosen_model() == catalog.of_kind(kind)[0]
    assert REQUESTS[kind] is request_type


def test_an_unknown_model_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(Invalid) as refused:
        PortraitRequest(prompt="x", model="flux-schnell").chosen_model()

    assert refused.value.errors[0]["detail"].endswith(
        "there are: flux-dev-portrait, flux-1.1-pro, fal-flux-dev, nano-banana-2, gpt-image-1"
    )


def test_a_model_that_takes_no_seed_refuses_one() -> None:
    model = catalog.models()["flux-schnell"]
    seedless = type(model)(**{**vars(model), "input": {"prompt": "prompt"}})

    with pytest.raises(Invalid) as refused:
        ImageRequest(prompt="x", seed=7).fields(seedless)

    assert refused.value.errors[0]["pointer"] == "/seed"


@given(count=st.integers(1, 4))
def test_the_price_is_that_of_every_image_asked_for(count: int) -> None:
    made = accept.offer("alice", PortraitRequest(prompt="x", count=count))

    assert (made.model.id, made.units, made.credits) == ("flux-dev-portrait", count, 10 * count)


def test_what_shapes_the_result_is_kept_and_what_is_about_the_job_is_not() -> None:
    request = ImageRequest(prompt="x", count=2, model="flux-schnell", metadata={"order": "7"})

    assert request.fields(request.chosen_model()) == {"prompt": "x", "count": 2, "aspect_ratio": "1:1"}


def sent(request: Request) -> dict[str, Any]:
    """What the provider would get."""
    model = request.chosen_model()
    return model.provider_input(request.fields(model))


def test_the_provider_gets_its_own_names_and_what_is_fixed_for_the_model() -> None:
    request = ImageRequest(prompt="a lighthouse", count=2, seed=7, aspect_ratio="16:9")

    assert sent(request) == {
        "prompt": "a lighthouse",
        "num_outputs": 2,
        "seed": 7,
        "aspect_ratio": "16:9",
        "output_format": "png",
        "output_quality": 100,
    }


def test_a_model_without_a_field_for_the_count_is_not_sent_one() -> None:
    request = ImageRequest(prompt="x", model="flux-1.1-pro")

    assert sent(request) == {
        "prompt": "x",
        "aspect_ratio": "1:1",
        "output_format": "png",
    }


def test_a_refusal_never_repeats_what_was_sent() -> None:
    with pytest.raises(Invalid) as refused:
        ImageRequest(prompt="x", model="<script>").chosen_model()

    assert "<script>" not in str(refused.value.errors)


# Every kind

GOOD: dict[catalog.Kind, dict[str, Any]] = {
    "image": {"prompt": "x"},
    "portrait": {"prompt": "x"},
    "video": {"prompt": "x"},
    "character-video": {"image": URL, "audio": URL, "duration_s": 10},
    "speech": {"text": "Hello."},
    "music": {"prompt": "x"},
    "transcription": {"audio": URL, "duration_s": 61},
    "stems": {"audio": URL, "duration_s": 61},
    "analysis": {"video": URL, "prompt": "x", "duration_s": 61},
}


def test_there_is_a_request_for_every_kind() -> None:
    assert [*REQUESTS, *OF_PROJECTS] == list(get_args(catalog.Kind))
    assert list(REQUESTS) == list(GOOD)


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("more", [{}, {"metadata": {"order": "7"}}])
def test_a_good_request_of_every_kind_is_taken(kind: catalog.Kind, more: dict[str, Any]) -> None:
    assert pointers(GOOD[kind] | more, kind) == []


@pytest.mark.parametrize(
    ("kind", "units", "credits"),
    [
        ("image", 1, 3),
        ("portrait", 1, 10),
        ("video", 5, 100),
        ("character-video", 10, 250),
        ("speech", 6, 1),
        ("music", 1, 30),
        ("transcription", 61, 3),
        ("stems", 61, 7),
        ("analysis", 61, 7),
    ],
)
def test_every_kind_has_a_price(kind: catalog.Kind, units: float, credits: int) -> None:
    made = accept.offer("alice", REQUESTS[kind].model_validate(GOOD[kind]))

    assert (made.units, made.credits) == (units, credits)


@pytest.mark.parametrize(
    ("kind", "changed", "expected"),
    [
        *((kind, {"colour": "red"}, ["/colour"]) for kind in GOOD),
        *((kind, {"model": "sora-3"}, ["/model"]) for kind in GOOD),
        *((kind, {"metadata": {"a": 1}}, ["/metadata/a"]) for kind in GOOD),
        *(
            (kind, {"prompt": "x" * (LONGEST_PROMPT + 1)}, ["/prompt"])
            for kind in GOOD
            if kind not in ("speech", "stems")
        ),
        *((kind, {"prompt": None}, ["/prompt"]) for kind in ("image", "portrait", "video", "music", "analysis")),
        *(
            (kind, {name: reference}, [f"/{name}"])
            for kind, request in REQUESTS.items()
            for name in request.media
            for reference in (
                7,
                "",
                "as_1",
                "ftp://x/y",
                "https://",
                "data:image/png;base64,AA",
                "https://x/" + "y" * 2048,
            )
        ),
        *(
            (kind, {name: "http://example.com/x"}, [f"/{name}"])
            for kind, r in REQUESTS.items()
            for name in r.media
            if name != "image"
        ),
        *(
            (kind, {"duration_s": None}, ["/duration_s"])
            for kind in ("character-video", "transcription", "stems", "analysis")
        ),
        *(
            (kind, {"duration_s": value}, ["/duration_s"])
            for kind in GOOD
            if kind != "speech"
            for value in (0, -1, 1.5, "5")
        ),
        ("image", {"duration_s": 5}, ["/duration_s"]),
        ("speech", {"duration_s": 5}, ["/duration_s"]),
        ("video", {"duration_s": 16}, ["/duration_s"]),
        ("video", {"duration_s": 7, "model": "fal-kling-video"}, ["/duration_s"]),
        ("video", {"aspect_ratio": "4:5"}, ["/aspect_ratio"]),
        ("video", {"aspect_ratio": "16:9", "model": "minimax-video"}, ["/aspect_ratio"]),
        ("video", {"image": URL, "model": "fal-kling-video"}, ["/image"]),
        ("video", {"seed": 7}, ["/seed"]),
        ("video", {"model": "sora-2"}, ["/model"]),
        ("video", {"model": "flux-schnell"}, ["/model"]),
        ("character-video", {"duration_s": 31}, ["/audio"]),
        ("character-video", {"prompt": "x"}, ["/prompt"]),
        ("speech", {"text": "  "}, ["/text"]),
        ("speech", {"text": "x" * 4097}, ["/text"]),
        ("speech", {"text": "x" * 10_001, "model": "eleven-multilingual-v2"}, ["/text"]),
        ("speech", {"text": "x" * (LONGEST_TEXT + 1)}, ["/text"]),
        ("speech", {"text": "a\x00b"}, ["/text"]),
        ("speech", {"voice": "nobody"}, ["/voice"]),
        ("speech", {"format": "wma"}, ["/format"]),
        ("speech", {"format": "wav", "model": "eleven-multilingual-v2"}, ["/format"]),
        ("speech", {"speed": 0.2}, ["/speed"]),
        ("speech", {"speed": 4.1}, ["/speed"]),
        ("speech", {"speed": float("nan")}, ["/speed"]),
        ("speech", {"instructions": "whisper", "model": "eleven-multilingual-v2"}, ["/instructions"]),
        ("music", {"duration_s": 30}, ["/duration_s"]),
        ("music", {"duration_s": 2, "model": "eleven-music"}, ["/duration_s"]),
        ("music", {"duration_s": 61, "model": "musicgen"}, ["/duration_s"]),
        ("music", {"instrumental": "no"}, ["/instrumental"]),
        ("music", {"instrumental": False, "model": "musicgen"}, ["/instrumental"]),
        ("transcription", {"language": "English"}, ["/language"]),
        ("transcription", {"duration_s": 14_401}, ["/duration_s"]),
        ("stems", {"duration_s": 1801}, ["/audio"]),
        ("stems", {"prompt": "x"}, ["/prompt"]),
        ("analysis", {"duration_s": 3601}, ["/video"]),
    ],
    ids=lambda value: str(value)[:50].encode("ascii", "replace").decode(),
)
def test_every_flaw_of_every_kind_has_a_pointer(
    kind: catalog.Kind, changed: dict[str, Any], expected: list[str]
) -> None:
    assert pointers(GOOD[kind] | changed, kind) == expected


def test_blanks_around_a_text_are_neither_spoken_nor_paid_for() -> None:
    made = accept.offer("alice", REQUESTS["speech"].model_validate({"text": " Hello. \n" + " " * 200}))

    assert (made.fields["text"], made.units, made.credits) == ("Hello.", 6, 1)


def test_a_retired_model_says_what_comes_after_it() -> None:
    with pytest.raises(Invalid) as refused:
        REQUESTS["video"].model_validate({"prompt": "x", "model": "sora-2"}).chosen_model()

    assert refused.value.errors == [{"pointer": "/model", "detail": "sora-2 is retired; use kling-3.0"}]


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        (
            "video",
            {"prompt": "x", "image": URL},
            {"prompt": "x", "duration": "5", "aspect_ratio": "16:9", "image_urls": [URL], "mode": "pro", "sound": True},
        ),
        ("video", {"prompt": "x", "model": "minimax-video", "image": URL}, {"prompt": "x", "first_frame_image": URL}),
        ("character-video", GOOD["character-video"], {"image": URL, "audio": URL}),
        (
            "speech",
            {"text": " Hello. ", "speed": 2},
            {"input": "Hello.", "voice": "coral", "response_format": "mp3", "speed": 2.0},
        ),
        (
            "speech",
            {"text": "Hello.", "model": "eleven-multilingual-v2", "speed": 0.9},
            {
                "text": "Hello.",
                "voice": "JBFqnCBsd6RMkjVDRZzb",
                "voice_settings": {"speed": 0.9},
                "output_format": "mp3_44100_128",
            },
        ),
        ("music", {"prompt": "x"}, {"prompt": "x", "instrumental": True, "customMode": False}),
        (
            "music",
            {"prompt": "x", "model": "eleven-music", "instrumental": False},
            {"prompt": "x", "music_length_ms": 30_000, "force_instrumental": False},
        ),
        ("music", {"prompt": "x", "model": "musicgen"}, {"prompt": "x", "duration": 30, "output_format": "mp3"}),
        ("transcription", GOOD["transcription"], {"audio_file": URL, "align_output": True}),
        (
            "transcription",
            {**GOOD["transcription"], "model": "fal-whisper", "language": "de"},
            {"audio_url": URL, "language": "de", "chunk_level": "word"},
        ),
        ("stems", GOOD["stems"], {"audio": URL, "stem": "vocals", "output_format": "mp3"}),
        ("analysis", GOOD["analysis"], {"prompt": "x"}),
    ],
)
def test_every_provider_gets_its_own_names_and_types(
    kind: catalog.Kind, body: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert sent(REQUESTS[kind].model_validate(body)) == expected


# Files


def keep(environment: pytest.MonkeyPatch, content_type: str, seconds: float | None) -> None:
    """Alice has one asset."""
    asset = Asset(
        AN_ASSET,
        "alice",
        "job_1",
        "x",
        content_type,
        "assets/x",
        1,
        "0" * 64,
        "2026-10-01T10:00:00.000Z",
        duration_s=seconds,
    )
    environment.setattr(
        assets, "find", lambda asset_id, account: asset if (asset_id, account) == (AN_ASSET, "alice") else None
    )


@pytest.mark.parametrize(("seconds", "units", "credits"), [(61.0, 61, 3), (60.2, 61, 3), (60.0, 60, 2), (0.3, 1, 1)])
def test_what_is_paid_for_is_the_length_of_the_asset_and_not_what_the_caller_says(
    environment: pytest.MonkeyPatch, seconds: float, units: float, credits: int
) -> None:
    keep(environment, "audio/mpeg", seconds)
    request = REQUESTS["transcription"].model_validate({"audio": AN_ASSET, "duration_s": 1})

    made = accept.offer("alice", request)

    assert (made.units, made.credits, made.input_keys) == (units, credits, {"audio": "assets/x"})


@pytest.mark.parametrize(
    ("content_type", "seconds", "expected"),
    [
        ("audio/mpeg", 1800, []),
        ("video/mp4", 60, []),
        ("audio/mpeg", 1801, ["/audio"]),
        ("image/png", None, ["/audio"]),
        ("text/vtt", None, ["/audio"]),
    ],
)
def test_an_asset_must_be_of_the_type_and_not_too_long(
    environment: pytest.MonkeyPatch, content_type: str, seconds: float | None, expected: list[str]
) -> None:
    keep(environment, content_type, seconds)

    assert pointers({"audio": AN_ASSET}, "stems") == expected


@pytest.mark.parametrize("account", ["bob", "alice"])
def test_an_asset_of_nobody_or_somebody_else_gets_the_same_answer(
    environment: pytest.MonkeyPatch, account: str
) -> None:
    keep(environment, "audio/mpeg", 10)
    reference = AN_ASSET if account == "bob" else AN_ASSET[:-1] + "1"

    with pytest.raises(Invalid) as refused:
        accept.offer(account, REQUESTS["stems"].model_validate({"audio": reference}))

    assert refused.value.errors == [{"pointer": "/audio", "detail": "there is no such asset"}]


# Batches


@pytest.mark.parametrize(
    ("generations", "expected"),
    [
        ([{"kind": "image", "prompt": "x"}, {"kind": "image"}], ["/generations/1/prompt"]),
        ([{"kind": "poem"}, {"prompt": "x"}], ["/generations/0/kind", "/generations/1/kind"]),
        ([{"kind": ["image"]}, {"kind": {}}, {"kind": None}], [f"/generations/{number}/kind" for number in range(3)]),
        ([{"kind": "image", "prompt": "x", "metadata": {"a": 1}}], ["/generations/0/metadata/a"]),
        ([{"kind": "image", "prompt": "x", "colour": 1}, {"kind": "image", "prompt": ""}],
         ["/generations/0/colour", "/generations/1/prompt"]),
        ([{"kind": "video", "prompt": "x", "duration_s": 99}], ["/generations/0/duration_s"]),
        ([{"kind": "image", "prompt": "x", "model": "y"}, {"kind": "speech", "text": "x", "voice": "y"}],
         ["/generations/0/model", "/generations/1/voice"]),
    ],
)  # fmt: skip
def test_every_flaw_of_a_batch_points_into_its_generations(
    generations: list[dict[str, Any]], expected: list[str]
) -> None:
    with pytest.raises(Invalid) as refused:
        batches.offers("alice", batches.parse(generations))

    assert [flaw["pointer"] for flaw in refused.value.errors] == expected


# Work on projects


@pytest.mark.parametrize(("seconds", "credits"), [(0.2, 1), (60, 1), (60.4, 2), (61, 2), (14_400, 240)])
def test_silence_cuts_are_paid_for_by_the_begun_minute(seconds: float, credits: int) -> None:
    request = SilenceCuts(project="pr_1", clip="c1")
    model = request.chosen_model()

    assert model.price.of(units(model, request.fields(model), seconds)) == credits


def test_of_silence_cuts_the_job_has_the_project_and_what_was_asked_for_and_nothing_about_itself() -> None:
    request = SilenceCuts(project="pr_1", clip="c1", margin=0.2, apply=True, metadata={"a": "b"})

    asked = {"project": "pr_1", "clip": "c1", "mode": "loudness", "margin": 0.2, "apply": True}
    assert request.fields(request.chosen_model()) == asked
