"""shared/core/trace: the ids of the log on the trace, and nothing besides."""

import json
import socket
from collections.abc import Iterator

import pytest

from api import health
from shared.core.log import logger
from shared.core.trace import noted
from tests.unit.helpers import Context, Json, Loopback, event

ROOT = "1-5759e988-bd862e3fe1be46a994272793"
HEADER = f"Root={ROOT};Parent=53995c3f42cd8ad8;Sampled=1"


@pytest.fixture
def daemon(environment: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """An X-Ray daemon that hears what it is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(2)
        environment.setenv("AWS_XRAY_DAEMON_ADDRESS", f"127.0.0.1:{listening.getsockname()[1]}")
        environment.setenv("_X_AMZN_TRACE_ID", HEADER)
        yield listening


def heard(daemon: socket.socket) -> Json:
    head, _, document = daemon.recv(65536).decode().partition("\n")
    assert json.loads(head) == {"format": "json", "version": 1}
    told: Json = json.loads(document)
    return told


def test_a_subsegment_carries_the_ids_of_the_log(daemon: socket.socket) -> None:
    logger.append_keys(request_id="request-1", job_id="job_1", account="alice")
    with noted("step"):
        pass

    told = heard(daemon)
    assert told["annotations"] == {"request_id": "request-1", "job_id": "job_1"}
    assert (told["name"], told["type"]) == ("step", "subsegment")
    assert (told["trace_id"], told["parent_id"]) == (ROOT, "53995c3f42cd8ad8")
    assert len(told["id"]) == 16
    assert 0 <= told["end_time"] - told["start_time"] < 2
    assert "alice" not in json.dumps(told)


def test_what_fails_is_noted_too(daemon: socket.socket) -> None:
    logger.append_keys(request_id="request-1")
    with pytest.raises(ValueError, match="no"), noted("step"):
        raise ValueError("no")

    assert heard(daemon)["annotations"] == {"request_id": "request-1"}


def test_the_request_id_of_an_answer_is_on_the_trace(daemon: socket.socket, cloud: Loopback) -> None:
    answer = health.handler(event("GET", "/v1/health"), Context())

    assert heard(daemon)["annotations"]["request_id"] == answer["headers"]["x-request-id"]


@pytest.mark.parametrize("header", ["", HEADER.replace("Sampled=1", "Sampled=0"), f"Root={ROOT}", "nonsense"])
def test_an_invocation_that_is_not_sampled_sends_nothing(
    daemon: socket.socket, environment: pytest.MonkeyPatch, header: str
) -> None:
    environment.setenv("_X_AMZN_TRACE_ID", header)
    with noted("step"):
        pass

    daemon.settimeout(0.05)
    with pytest.raises(TimeoutError):
        daemon.recv(65536)


def test_without_a_daemon_nothing_is_sent_and_nothing_fails(environment: pytest.MonkeyPatch) -> None:
    done = []
    environment.delenv("AWS_XRAY_DAEMON_ADDRESS", raising=False)
    environment.setenv("_X_AMZN_TRACE_ID", HEADER)
    with noted("step"):
        done.append("without an address")
    environment.setenv("AWS_XRAY_DAEMON_ADDRESS", "127.0.0.1:1")
    with noted("step"):
        done.append("with nobody there")

    assert done == ["without an address", "with nobody there"]
