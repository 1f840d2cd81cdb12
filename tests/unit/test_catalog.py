"""The catalogue: what it offers can be had, and one that contradicts itself is refused."""

import pytest

from shared.jobs import catalog
from shared.jobs.catalog import Model, Price
from shared.jobs.requests import REQUESTS, StillRequest
from shared.providers.registry import PROVIDERS

SECTION = """
[model]
title = "A model"
kinds = ["image"]
provider = "replicate"
provider_model = "owner/name"
price = { per = "image", credits = 3 }
deadline_s = 600
abandon_s = 1200
largest_bytes = 30_000_000
max_count = 4
aspect_ratios = ["1:1"]
input = { prompt = "prompt" }
"""

EVERY_MODEL = pytest.mark.parametrize("model", catalog.models().values(), ids=catalog.models())


def test_a_section_is_a_model() -> None:
    assert catalog.parse(SECTION) == {
        "model": Model(
            id="model",
            title="A model",
            kinds=("image",),
            provider="replicate",
            provider_model="owner/name",
            price=Price("image", 3),
            deadline_s=600,
            abandon_s=1200,
            largest_bytes=30_000_000,
            max_count=4,
            aspect_ratios=("1:1",),
            input={"prompt": "prompt"},
        )
    }


@pytest.mark.parametrize(
    ("written", "instead"),
    [
        ("deadline_s = 600", "deadline_s = 0"),
        ("deadline_s = 600", "deadline_s = 1200"),
        ("deadline_s = 600", "deadline_s = 5000"),
        ("abandon_s = 1200", "abandon_s = -1"),
        ("credits = 3", "credits = 0"),
        ("credits = 3", "credits = -3"),
        ('kinds = ["image"]', "kinds = []"),
        ('aspect_ratios = ["1:1"]', "aspect_ratios = []"),
    ],
)
def test_a_catalogue_that_contradicts_itself_is_refused(written: str, instead: str) -> None:
    assert written in SECTION

    with pytest.raises(ValueError, match=r"catalog\.toml: model"):
        catalog.parse(SECTION.replace(written, instead))


@pytest.mark.parametrize("added", ["colour = true\n", "max_count = 2\n"])
def test_a_field_that_nobody_knows_or_that_is_there_twice_is_refused(added: str) -> None:
    with pytest.raises((TypeError, ValueError)):
        catalog.parse(SECTION + added)


@EVERY_MODEL
def test_every_model_has_a_provider_that_we_speak(model: Model) -> None:
    assert model.provider in PROVIDERS


@EVERY_MODEL
def test_every_model_serves_kinds_that_can_be_asked_for(model: Model) -> None:
    assert set(model.kinds) <= REQUESTS.keys()


@EVERY_MODEL
def test_every_model_maps_only_fields_that_a_request_has(model: Model) -> None:
    for kind in model.kinds:
        assert model.input.keys() <= REQUESTS[kind].model_fields.keys()
    assert "prompt" in model.input
    assert not set(model.input.values()) & model.fixed.keys(), "a caller must not overwrite what is fixed"


@EVERY_MODEL
def test_every_model_that_makes_several_can_be_told_how_many(model: Model) -> None:
    assert 1 <= model.max_count <= 4
    assert model.max_count == 1 or "count" in model.input


@EVERY_MODEL
def test_every_aspect_ratio_on_offer_can_be_asked_for(model: Model) -> None:
    for ratio in model.aspect_ratios:
        for kind in model.kinds:
            request_type = REQUESTS[kind]
            assert issubclass(request_type, StillRequest)
            request_type(prompt="x", model=model.id, aspect_ratio=ratio).check(model)


@EVERY_MODEL
def test_every_model_has_a_size_that_can_be_stored(model: Model) -> None:
    assert 1 <= model.largest_bytes <= 100_000_000


@pytest.mark.parametrize("kind", REQUESTS)
def test_every_kind_has_a_default_model(kind: catalog.Kind) -> None:
    assert catalog.of_kind(kind)[0].kinds[0] == kind
