"""The catalogue: what it offers can be had, and one that contradicts itself is refused."""

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.settings import IN_HOUSE
from shared.jobs import catalog
from shared.jobs.catalog import FAMILIES, Limits, Model, Price
from shared.jobs.requests import OF_PROJECTS, REQUESTS
from shared.providers.outcomes import ModelGone
from shared.providers.registry import GENERATORS, PREDICTORS, generator, predictor

SECTION = """
[model]
title = "A model"
kinds = ["image"]
provider = "replicate"
provider_model = "owner/name"
price = { per = "image", credits = 3 }
deadline_s = 600
abandon_s = 1200
expected_s = 4
largest_bytes = 30_000_000
limits = { max_count = 4, aspect_ratios = ["1:1"] }
input = { prompt = "prompt" }
"""

ASKABLE = {**REQUESTS, **OF_PROJECTS}
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
            expected_s=4,
            largest_bytes=30_000_000,
            limits=Limits(max_count=4, aspect_ratios=("1:1",)),
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
        ("credits = 3", "credits = 3, every = 0"),
        ('per = "image"', 'per = "hour"'),
        ('per = "image"', 'colour = "red"'),
        ("expected_s = 4", "expected_s = 0"),
        ("expected_s = 4", ""),
        ('kinds = ["image"]', "kinds = []"),
        ('kinds = ["image"]', 'kinds = ["poem"]'),
        ('kinds = ["image"]', ""),
        ('"replicate"', '"replicant"'),
        ("max_count = 4", "colours = 4"),
        ('{ prompt = "prompt" }', '{ prompt = "prompt:upper" }'),
    ],
)
def test_a_catalogue_that_contradicts_itself_is_refused(written: str, instead: str) -> None:
    assert written in SECTION

    with pytest.raises(ValueError, match=r"catalog\.toml: \[model\]"):
        catalog.parse(SECTION.replace(written, instead))


@pytest.mark.parametrize("added", ["colour = true\n", "expected_s = 2\n"])
def test_a_field_that_nobody_knows_or_that_is_there_twice_is_refused(added: str) -> None:
    with pytest.raises((TypeError, ValueError)):
        catalog.parse(SECTION + added)


def test_a_model_that_nobody_knows_succeeds_none() -> None:
    with pytest.raises(ValueError, match="successor gone"):
        catalog.parse(SECTION + 'successor = "gone"\n')


def test_a_retired_model_is_kept_and_not_offered() -> None:
    retired = {model.id for model in catalog.models().values() if model.successor}

    assert retired == {"sora-2"}
    assert not retired & {model.id for kind in REQUESTS for model in catalog.of_kind(kind)}


@EVERY_MODEL
def test_every_model_has_a_provider_that_we_speak(model: Model) -> None:
    assert model.provider in PREDICTORS | GENERATORS | {IN_HOUSE}


@EVERY_MODEL
def test_every_model_serves_kinds_that_can_be_asked_for(model: Model) -> None:
    assert set(model.kinds) <= (OF_PROJECTS if model.provider == IN_HOUSE else REQUESTS).keys()


@EVERY_MODEL
def test_every_model_maps_only_fields_that_a_request_has(model: Model) -> None:
    for kind in model.kinds:
        assert model.input.keys() <= ASKABLE[kind].model_fields.keys()
    assert bool(model.input.keys() & {"prompt", "text", "audio"}) == (model.provider != IN_HOUSE)
    targets = [target.partition(":")[0] for target in model.input.values()]
    assert len(targets) == len(set(targets))
    assert not set(targets) & model.fixed.keys(), "a caller must not overwrite what is fixed"


@EVERY_MODEL
def test_every_still_model_that_makes_several_can_be_told_how_many(model: Model) -> None:
    assert 1 <= model.limits.max_count <= 4
    if {"image", "portrait"} & set(model.kinds):
        assert model.limits.max_count == 1 or "count" in model.input


@EVERY_MODEL
def test_everything_on_offer_can_be_asked_for(model: Model) -> None:
    if model.successor:
        return
    offers = {
        "aspect_ratio": model.limits.aspect_ratios,
        "duration_s": model.limits.durations_s,
        "voice": model.limits.voices,
        "format": model.limits.formats,
    }
    for kind in model.kinds:
        for name, values in offers.items():
            for value in values:
                request = ASKABLE[kind].model_validate({**SMALLEST[kind], "model": model.id})
                assert request.model_copy(update={name: value}).fields(model)[name] == value


SMALLEST: dict[catalog.Kind, dict[str, Any]] = {
    "image": {"prompt": "x"},
    "portrait": {"prompt": "x"},
    "video": {"prompt": "x"},
    "character-video": {"image": "https://x/y", "audio": "https://x/y"},
    "speech": {"text": "x"},
    "music": {"prompt": "x"},
    "transcription": {"audio": "https://x/y"},
    "stems": {"audio": "https://x/y"},
    "analysis": {"video": "https://x/y", "prompt": "x"},
}


@EVERY_MODEL
def test_a_model_that_is_paid_by_the_second_or_the_character_limits_them(model: Model) -> None:
    limits = model.limits
    match model.price.per:
        case "second":
            assert limits.durations_s or limits.max_duration_s or limits.max_input_s
        case "character":
            assert limits.max_characters


@EVERY_MODEL
def test_every_model_has_a_size_that_can_be_stored(model: Model) -> None:
    assert 1 <= model.largest_bytes <= 500_000_000


@pytest.mark.parametrize("kind", ASKABLE)
def test_every_kind_has_a_default_model(kind: catalog.Kind) -> None:
    assert catalog.of_kind(kind)[0].kinds[0] == kind


def test_every_kind_makes_something() -> None:
    assert FAMILIES.keys() == set(get_args(catalog.Kind))


@pytest.mark.parametrize("name", sorted(PREDICTORS))
def test_a_provider_that_answers_later_has_every_function(name: str) -> None:
    for function in ("connection", "submit", "fetch", "cancel", "find", "parse_webhook"):
        assert callable(getattr(predictor(name), function))
    with pytest.raises(ModelGone):
        generator(name)


@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_a_provider_that_answers_at_once_is_no_predictor(name: str) -> None:
    assert callable(generator(name).connection)
    with pytest.raises(ModelGone):
        predictor(name)


@pytest.mark.parametrize("name", ["", "os", "http", "../x"])
def test_no_other_module_is_a_provider(name: str) -> None:
    with pytest.raises(ModelGone):
        predictor(name)
    with pytest.raises(ModelGone):
        generator(name)


# Prices


@pytest.mark.parametrize(
    ("price", "units", "expected"),
    [
        (Price("image", 3), 0, 0),
        (Price("image", 3), -1, 0),
        (Price("image", 3), 1, 3),
        (Price("image", 3), 4, 12),
        (Price("second", 20), 5, 100),
        (Price("second", 20), 5.004, 100),
        (Price("second", 20), 5.01, 100),
        (Price("second", 20), 5.02, 120),
        (Price("second", 20), 5.5, 120),
        (Price("second", 20), 0.3, 20),
        (Price("character", 1, every=100), 1, 1),
        (Price("character", 1, every=100), 100, 1),
        (Price("character", 1, every=100), 102, 2),
        (Price("character", 3, every=100), 4096, 123),
        (Price("second", 1, every=30), 14_400, 480),
        (Price("second", 1, every=10, minimum=5), 0, 0),
        (Price("second", 1, every=10, minimum=5), 1, 5),
        (Price("second", 1, every=10, minimum=5), 60, 6),
        (Price("job", 80), 1, 80),
    ],
)
def test_a_price_is_for_every_begun_amount_of_units(price: Price, units: float, expected: int) -> None:
    assert price.of(units) == expected


PRICES = st.builds(Price, st.just("second"), st.integers(1, 50), st.integers(1, 200), st.integers(0, 20))


@given(PRICES, st.floats(0, 1e5), st.floats(0, 1e5))
def test_more_units_never_cost_less(price: Price, units: float, more: float) -> None:
    assert price.of(units + more) >= price.of(units) >= 0


# What the provider gets


def test_every_conversion_gives_the_providers_type() -> None:
    model = catalog.parse(
        SECTION.replace(
            '{ prompt = "prompt" }',
            '{ a = "a", b = "b:string", c = "c:integer", d = "d:milliseconds", '
            'e = "e:list", f = "f:negated", g = "x.y" }',
        )
    )["model"]
    request = {"a": "x", "b": 5, "c": 5.0, "d": 2.5, "e": "https://x/y", "f": False, "g": 7, "h": "unknown"}

    built = model.provider_input(request)

    assert built == {"a": "x", "b": "5", "c": 5, "d": 2500, "e": ["https://x/y"], "f": True, "x": {"y": 7}}
    assert [type(built[name]) for name in "bcd"] == [str, int, int]


def test_what_is_not_asked_for_is_not_sent_and_false_is() -> None:
    text = SECTION.replace('{ prompt = "prompt" }', '{ a = "a", b = "b:list", c = "c" }')

    assert catalog.parse(text)["model"].provider_input({"a": None, "c": False}) == {"c": False}


def test_what_is_fixed_is_not_changed_by_a_request_inside_it() -> None:
    text = SECTION.replace(
        '{ prompt = "prompt" }', '{ speed = "settings.speed" }\nfixed = { settings = { style = 1 } }'
    )
    model = catalog.parse(text)["model"]

    assert model.provider_input({"speed": 2}) == {"settings": {"style": 1, "speed": 2}}
    assert model.fixed == {"settings": {"style": 1}}
    assert model.provider_input({}) == {"settings": {"style": 1}}


def test_what_a_model_costs_us_is_by_the_unit_where_the_catalogue_knows() -> None:
    assert catalog.models()["kling-3.0"].cost_of(5) == pytest.approx(0.5)
    assert catalog.models()["sora-2"].cost_of(5) is None
