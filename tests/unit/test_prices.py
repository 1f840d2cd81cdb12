"""What a finished job costs: what was delivered, never more than was held, and what the provider reports goes first."""

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.jobs import catalog, prices
from shared.jobs.table import Job
from shared.providers.outcomes import Prediction
from tests.unit.helpers import job


def done(model: str, *, hold: int, units: float = 1, result: Prediction | None = None, **files: Any) -> Job:
    chosen = catalog.models()[model]
    made = {"model": model, "kind": chosen.kinds[0], "provider": chosen.provider, "hold": hold, "units": units}
    return job(**made, result=result, **files)


def told(units: float | None = None, cost_usd: float | None = None) -> Prediction:
    return Prediction("p", "succeeded", units=units, cost_usd=cost_usd)


@pytest.mark.parametrize(("result", "cost"), [(told(2, cost_usd=0.5), 0.5), (told(), None), (None, None)])
def test_what_a_model_has_made_that_is_gone_costs_what_was_held(result: Prediction | None, cost: float | None) -> None:
    assert prices.of_gone(job(model="withdrawn", hold=7, result=result)) == (7, cost)


IMAGE = {"id": "as_1"}


def sound(seconds: float | None) -> dict[str, Any]:
    return {"id": "as_1", **({} if seconds is None else {"duration_s": seconds})}


@pytest.mark.parametrize(
    ("finished", "delivered", "charged"),
    [
        (done("flux-schnell", hold=12, units=4, assets=(IMAGE,) * 4), 4, 12),
        (done("flux-schnell", hold=12, units=4, assets=(IMAGE,) * 3), 3, 9),
        (done("flux-schnell", hold=12, units=4, assets=(IMAGE,) * 3, result=told(2)), 2, 6),
        (done("flux-schnell", hold=12, units=4, assets=(IMAGE,) * 3, result=told(0)), 0, 0),
        (done("kling-3.0", hold=100, units=5, assets=(sound(5.004),)), 5.004, 100),
        (done("kling-3.0", hold=100, units=5, assets=(sound(3.0),)), 3, 60),
        (done("kling-3.0", hold=100, units=5, assets=(sound(None),)), 5, 100),
        (done("kling-3.0", hold=100, units=5, assets=(sound(5),), result=told()), 5, 100),
        (done("eleven-music", hold=30, units=30, assets=(sound(12.0), sound(20.0))), 20, 20),
        (done("omni-human", hold=250, units=10, assets=(sound(3.0),)), 10, 250),
        (done("whisperx", hold=3, units=61, assets=(IMAGE,) * 3), 61, 3),
        (done("gemini-3-flash", hold=7, units=61, assets=(IMAGE,), result=told(30.5)), 30.5, 4),
        (done("gpt-4o-mini-tts", hold=2, units=102, assets=(sound(8.0),)), 102, 2),
        (done("veo-3.1-fast", hold=80, assets=(sound(8.0),)), 1, 80),
    ],
)  # fmt: skip
def test_only_what_was_delivered_is_charged(finished: Job, delivered: float, charged: int) -> None:
    model = catalog.models()[finished.model]

    assert prices.delivered(finished, model) == delivered
    assert prices.charge(finished, model, delivered) == charged


def test_more_than_was_held_is_capped_and_flagged(log: io.StringIO) -> None:
    finished = done("flux-schnell", hold=6, units=2)

    assert prices.charge(finished, catalog.models()["flux-schnell"], 5) == 6
    line = json.loads(log.getvalue().splitlines()[0])
    assert (line["level"], line["price"], line["held"]) == ("ERROR", 15, 6)


def test_exactly_what_was_held_is_no_news(log: io.StringIO) -> None:
    assert prices.charge(done("flux-schnell", hold=6, units=2), catalog.models()["flux-schnell"], 2) == 6
    assert log.getvalue() == ""


@given(st.integers(0, 500), st.floats(0, 1000), st.sampled_from(sorted(catalog.models())))
def test_a_charge_is_never_more_than_the_hold_nor_less_than_nothing(hold: int, units: float, model: str) -> None:
    assert 0 <= prices.charge(done(model, hold=hold), catalog.models()[model], units) <= hold


@pytest.mark.parametrize(
    ("model", "result", "units", "expected"),
    [
        ("flux-schnell", None, 4, 0.012),
        ("flux-schnell", told(), 4, 0.012),
        ("flux-schnell", told(cost_usd=0.5), 4, 0.5),
        ("flux-schnell", told(cost_usd=0.0), 4, 0.0),
        ("flux-schnell", None, 0, 0.0),
        ("sora-2", None, 4, None),
        ("sora-2", told(cost_usd=0.4), 4, 0.4),
    ],
)
def test_what_it_cost_us_is_what_the_provider_reports_else_what_the_catalogue_says(
    model: str, result: Prediction | None, units: float, expected: float | None
) -> None:
    cost = prices.cost(done(model, hold=12, result=result), catalog.models()[model], units)

    assert cost == (None if expected is None else pytest.approx(expected))
