"""What may be asked for, and what a flaw points at."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.core.errors import Invalid
from shared.jobs import accept, catalog
from shared.jobs.requests import LARGEST_SEED, LONGEST_PROMPT, REQUESTS, ImageRequest, PortraitRequest


def pointers(body: dict[str, Any]) -> list[str]:
    """What is wrong with an image request, as JSON pointers; empty when nothing is."""
    try:
        request = ImageRequest.model_validate(body)
        accept.price(request)
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

    assert refused.value.errors[0]["detail"].endswith("flux-dev-portrait, flux-1.1-pro")


def test_a_model_that_takes_no_seed_refuses_one() -> None:
    model = catalog.models()["flux-schnell"]
    seedless = type(model)(**{**vars(model), "input": {"prompt": "prompt"}})

    with pytest.raises(Invalid) as refused:
        ImageRequest(prompt="x", seed=7).check(seedless)

    assert refused.value.errors[0]["pointer"] == "/seed"


@given(count=st.integers(1, 4))
def test_the_price_is_that_of_every_image_asked_for(count: int) -> None:
    model, credits = accept.price(PortraitRequest(prompt="x", count=count))

    assert (model.id, credits) == ("flux-dev-portrait", 10 * count)


def test_what_shapes_the_result_is_kept_and_what_is_about_the_job_is_not() -> None:
    request = ImageRequest(prompt="x", count=2, model="flux-schnell", metadata={"order": "7"})

    assert request.provider_fields() == {"prompt": "x", "count": 2, "aspect_ratio": "1:1"}


def test_the_provider_gets_its_own_names_and_what_is_fixed_for_the_model() -> None:
    request = ImageRequest(prompt="a lighthouse", count=2, seed=7, aspect_ratio="16:9")

    assert request.chosen_model().provider_input(request.provider_fields()) == {
        "prompt": "a lighthouse",
        "num_outputs": 2,
        "seed": 7,
        "aspect_ratio": "16:9",
        "output_format": "png",
        "output_quality": 100,
    }


def test_a_model_without_a_field_for_the_count_is_not_sent_one() -> None:
    request = ImageRequest(prompt="x", model="flux-1.1-pro")

    assert request.chosen_model().provider_input(request.provider_fields()) == {
        "prompt": "x",
        "aspect_ratio": "1:1",
        "output_format": "png",
    }


def test_a_refusal_never_repeats_what_was_sent() -> None:
    with pytest.raises(Invalid) as refused:
        ImageRequest(prompt="x", model="<script>").chosen_model()

    assert "<script>" not in str(refused.value.errors)
