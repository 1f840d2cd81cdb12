"""Receivers of callbacks: they keep what comes and do as they were told."""

import time
from collections.abc import Iterator

import httpx
import pytest

from local.simulator.app import Settings, create_app
from local.simulator.server import serving


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with serving(create_app(Settings())) as listening:
        yield listening


@pytest.fixture
def url(origin: str, request: pytest.FixtureRequest) -> str:
    """A receiver of its own for every test."""
    return f"{origin}/_sim/callbacks/{request.node.name}"


def told(url: str, **manner: object) -> None:
    assert httpx.put(url, json=manner).status_code == 204


def test_what_came_is_told_oldest_first(url: str) -> None:
    for number in range(2):
        assert httpx.post(url, content=f"body {number}", headers={"webhook-id": str(number)}).status_code == 204

    calls = httpx.get(url).json()["calls"]

    assert [(call["body"], call["headers"]["webhook-id"], call["answer"]) for call in calls] == [
        ("body 0", "0", 204),
        ("body 1", "1", 204),
    ]
    assert calls[0]["at"] <= calls[1]["at"] <= time.time()


def test_a_fault_happens_as_often_as_it_was_told(url: str) -> None:
    told(url, status=503, times=2, headers={"retry-after": "7"})

    answers = [httpx.post(url) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [503, 503, 204]
    assert [answer.headers.get("retry-after") for answer in answers] == ["7", "7", None]


def test_a_redirect_names_where_to(url: str) -> None:
    told(url, status=302, headers={"location": "http://127.0.0.1:1/"})

    answer = httpx.post(url)

    assert (answer.status_code, answer.headers["location"]) == (302, "http://127.0.0.1:1/")


def test_a_dropped_connection_has_no_answer_and_the_call_is_kept(url: str) -> None:
    told(url, status="drop")

    with pytest.raises(httpx.TransportError):
        httpx.post(url, content="x")

    assert [(call["body"], call["answer"]) for call in httpx.get(url).json()["calls"]] == [("x", "drop")]


def test_a_slow_one_takes_its_time_until_it_is_told_otherwise(url: str) -> None:
    told(url, slow=0.3)
    begun = time.monotonic()
    assert httpx.post(url).status_code == 204
    assert time.monotonic() - begun >= 0.3

    told(url)
    begun = time.monotonic()
    assert httpx.post(url).status_code == 204
    assert time.monotonic() - begun < 0.3


def test_receivers_know_nothing_of_each_other(url: str) -> None:
    told(url, status=500)
    httpx.post(url)

    assert httpx.post(f"{url}-other").status_code == 204
    assert len(httpx.get(f"{url}-other").json()["calls"]) == 1
