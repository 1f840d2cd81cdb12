"""Key pools: a throttled key rests and the next is used; a prediction stays with the key that made it."""

import json
import time
from typing import Any

import pytest

from shared.core.errors import Unavailable
from shared.providers import keys
from shared.providers.outcomes import KeyRefused, OperatorNeeded, Throttled
from tests.unit.helpers import Loopback

ONE, TWO, THREE = "r8_key-one", "r8_key-two", "r8_key-three"
Clock = list[float]


@pytest.fixture
def clock(cloud: Loopback, environment: pytest.MonkeyPatch) -> Clock:
    """A clock that stands, and a secret with three keys."""
    configure(cloud, {"api_keys": [ONE, TWO, THREE]})
    now = [time.time()]
    environment.setattr(keys, "current_time", lambda: now[0])
    return now


def configure(cloud: Loopback, secret: Any) -> None:
    cloud.keeps_secrets({"atelier/replicate": secret if isinstance(secret, str) else json.dumps(secret)})


def test_keys_are_used_in_their_order(clock: Clock) -> None:
    assert keys.pool("replicate") == list(keys.rested("replicate")) == [ONE, TWO, THREE]


def test_a_throttled_key_rests_and_the_next_is_used(clock: Clock) -> None:
    tried = []
    for key in keys.rested("replicate"):
        tried.append(key)
        if key == TWO:
            break
        keys.rest(key, 7)

    assert tried == [ONE, TWO]
    assert list(keys.rested("replicate")) == [TWO, THREE]


@pytest.mark.parametrize(("asked", "rests"), [(7, 7), (None, keys.REST_S), (0, keys.REST_S), (120.5, 120.5)])
def test_a_key_rests_as_long_as_the_provider_asked_or_half_a_minute(
    clock: Clock, asked: float | None, rests: float
) -> None:
    keys.rest(ONE, asked)

    clock[0] += rests - 0.1
    assert ONE not in keys.rested("replicate")
    clock[0] += 0.2
    assert next(keys.rested("replicate")) == ONE


def test_when_every_key_rests_all_are_tried(clock: Clock) -> None:
    for key in (ONE, TWO, THREE):
        keys.rest(key, 60)

    assert list(keys.rested("replicate")) == [ONE, TWO, THREE]


@pytest.mark.parametrize("key", [ONE, TWO, THREE])
def test_a_prediction_is_asked_for_with_the_key_that_made_it_even_while_it_rests(clock: Clock, key: str) -> None:
    keys.rest(key, 60)

    assert keys.made_by("replicate", keys.fingerprint(key)) == key


@pytest.mark.parametrize("known", [None, "", keys.fingerprint("r8_withdrawn")])
def test_without_its_key_a_prediction_is_asked_for_with_the_first(clock: Clock, known: str | None) -> None:
    assert keys.made_by("replicate", known) == ONE


def test_a_fingerprint_tells_keys_apart_and_says_nothing_of_them() -> None:
    prints = {keys.fingerprint(key) for key in (ONE, TWO, THREE)}

    assert len(prints) == 3
    for found in prints:
        assert len(found) == 12
        assert int(found, 16) >= 0
        assert found not in ONE + TWO + THREE


@pytest.mark.parametrize(
    "secret",
    [
        {},
        {"api_keys": []},
        {"api_keys": ONE},
        {"api_keys": [ONE, ""]},
        {"api_keys": [7]},
        {"api_keys": None},
        {"api_key": ONE},
        [ONE],
        "",
        ONE,
    ],
)
def test_a_secret_without_keys_is_503_and_never_quoted(cloud: Loopback, secret: Any) -> None:
    configure(cloud, secret)

    for ask in (keys.pool, lambda name: list(keys.rested(name)), lambda name: keys.made_by(name, None)):
        with pytest.raises(Unavailable) as refused:
            ask("replicate")
        assert (refused.value.status, refused.value.code) == (503, "unconfigured")
        assert ONE not in str(refused.value.document("request-1"))


def test_another_providers_keys_are_in_another_secret(clock: Clock) -> None:
    with pytest.raises(Unavailable):
        keys.pool("kie")


def test_a_call_is_made_with_the_first_key_that_does(clock: Clock) -> None:
    met = {ONE: Throttled("too many", retry_after=7), TWO: KeyRefused("not accepted")}
    tried = []

    def call(key: str) -> str:
        tried.append(key)
        if key in met:
            raise met[key]
        return key

    assert (keys.with_one("replicate", call), tried) == (THREE, [ONE, TWO, THREE])
    assert keys.with_one("replicate", call) == THREE
    assert tried[3:] == [THREE]


@pytest.mark.parametrize(("last", "raised"), [("throttled", Throttled), ("refused", Throttled), (None, KeyRefused)])
def test_what_passes_by_itself_is_told_rather_than_what_does_not(
    clock: Clock, last: str | None, raised: type[Exception]
) -> None:
    met = {
        ONE: KeyRefused("not accepted"),
        TWO: KeyRefused("not accepted") if last != "refused" else Throttled("too many"),
        THREE: Throttled("too many") if last == "throttled" else KeyRefused("not accepted"),
    }

    def call(key: str) -> str:
        raise met[key]

    with pytest.raises(raised):
        keys.with_one("replicate", call)


@pytest.mark.parametrize(
    ("error", "told"), [(KeyRefused("not accepted"), 3), (OperatorNeeded("no such model"), 1), (Throttled("wait"), 0)]
)
def test_the_operator_is_told_once_of_every_key_that_is_refused(
    clock: Clock, capsys: pytest.CaptureFixture[str], error: Exception, told: int
) -> None:
    def call(key: str) -> str:
        raise error

    with pytest.raises(type(error)):
        keys.with_one("replicate", call)

    counted = [line for line in capsys.readouterr().out.splitlines() if '"OperatorNeeded":' in line]
    assert len(counted) == told
