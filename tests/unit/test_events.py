"""events/: one real payload for every trigger, and each fits what it is for."""

import io
import json
import re
from datetime import datetime
from importlib import import_module
from typing import Any

import pytest

from shared.core import ids
from shared.jobs import accept, batches, steps
from shared.jobs.requests import REQUESTS
from shared.media import assets
from shared.media.assets import Asset
from shared.providers import replicate
from shared.providers.outcomes import Failure
from shared.publishing import steps as publishing_steps
from tests.unit.helpers import EVENTS, WEBHOOK_SECRET, Context, Json, Loopback, functions, load, problem, routes

API = sorted(path.stem for path in (EVENTS / "api").glob("*.json"))
WEBHOOKS = sorted(path.stem for path in (EVENTS / "webhooks").glob("*.json"))
GENERATION = sorted(path.stem for path in (EVENTS / "generation").glob("*.json"))
PUBLISHING = sorted(path.stem for path in (EVENTS / "publishing").glob("*.json"))
STREAMS = sorted(path.stem for path in (EVENTS / "events").glob("*.json"))
REALTIME = sorted(path.stem for path in (EVENTS / "realtime").glob("*.json"))
SCHEDULED = sorted(path.stem for path in (EVENTS / "scheduled").glob("*.json"))
ROUTES = routes()
# What the payloads refer to, were it there; GET /v1/assets has the picture.
ASSETS = {
    asset_id: Asset(asset_id, "alice", "job_1", "image", content_type, "assets/x", 1, "0" * 64, "", duration_s=seconds)
    for asset_id, content_type, seconds in (
        ("as_0h2v9m7q3x5c8b1d401k6fe8z4", "image/png", None),
        ("as_01k6fe8z40s4t8q2w6y0b3n7bb", "audio/mpeg", 12.5),
        ("as_01k6fe8z40v5h1k9x4z7c0j2cc", "video/mp4", 30.0),
    )
}
HANDLERS = {properties["Handler"]: properties for properties in functions().values()}
OPEN = {"health": 200, "openapi": 200, "get_docs": 200, "not_found": 404}


def handle(name: str, payload: Json) -> Json:
    """What the function that the template sends this to answers."""
    module = import_module(ROUTES[payload["routeKey"]].rpartition(".")[0])
    answer: Json = module.handler(payload, Context())
    return answer


def test_every_file_is_of_a_known_trigger() -> None:
    known = {
        "api": API,
        "webhooks": WEBHOOKS,
        "generation": GENERATION,
        "publishing": PUBLISHING,
        "realtime": REALTIME,
        "scheduled": SCHEDULED,
        "events": STREAMS,
    }
    files = {str(path.relative_to(EVENTS)) for path in EVENTS.rglob("*") if path.is_file()}

    assert files == {f"{folder}/{name}.json" for folder, names in known.items() for name in names} | {"README.md"}


def test_every_trigger_has_a_payload() -> None:
    assert {load(f"api/{name}.json")["routeKey"] for name in API} == ROUTES.keys()
    for handler in HANDLERS:
        folder, module, _ = handler.split(".")
        if folder in ("generation", "publishing", "realtime", "scheduled", "events"):
            assert (EVENTS / folder / f"{module}.json").exists()


@pytest.mark.parametrize("name", API)
def test_a_request_goes_to_the_function_that_has_its_operation(name: str) -> None:
    payload = load(f"api/{name}.json")
    context = payload["requestContext"]

    module = import_module(ROUTES[payload["routeKey"]].rpartition(".")[0])
    assert hasattr(module, name) or module.__name__ == f"api.{name}"
    assert (payload["version"], context["routeKey"]) == ("2.0", payload["routeKey"])
    assert context["http"]["path"] == payload["rawPath"]
    if payload["routeKey"] != "$default":
        method, path = payload["routeKey"].split(" ")
        assert context["http"]["method"] == method
        assert path.format(**payload.get("pathParameters", {})) == payload["rawPath"]
    if payload.get("body"):
        assert payload["headers"]["content-length"] == str(len(payload["body"].encode()))


@pytest.mark.parametrize(("name", "status"), OPEN.items())
def test_an_open_request_is_answered(name: str, status: int) -> None:
    answer = handle(name, load(f"api/{name}.json"))

    assert answer["statusCode"] == status
    assert answer["body"].startswith("<!doctype html>") if name == "get_docs" else json.loads(answer["body"])


@pytest.mark.parametrize("name", [name for name in API if name not in OPEN])
def test_a_closed_request_is_refused_with_the_token_of_the_file(cloud: Loopback, name: str) -> None:
    payload = load(f"api/{name}.json")

    answer = handle(name, payload)

    assert problem(answer)["code"] == "unauthorized"
    assert answer["headers"]["x-request-id"] == payload["requestContext"]["requestId"]


# Webhooks


def signed(name: str) -> tuple[dict[str, str], bytes, float]:
    payload = load(f"webhooks/{name}.json")
    return payload["headers"], payload["body"].encode(), float(payload["headers"]["webhook-timestamp"])


EXPECTED: dict[str, Any] = {
    "replicate_succeeded": ("succeeded", 2, None),
    "replicate_failed": (
        "failed",
        0,
        Failure("content_refused", "NSFW content detected. Try running it again, or try a different prompt."),
    ),
}


@pytest.mark.parametrize("name", WEBHOOKS)
def test_a_webhook_verifies_with_the_documented_secret_at_its_time(cloud: Loopback, name: str) -> None:
    notice = replicate.parse_webhook(*signed(name))

    prediction = notice.prediction
    assert prediction is not None
    assert notice.prediction_id == prediction.id
    assert (prediction.status, len(prediction.outputs), prediction.failure) == EXPECTED[name]
    readme = (EVENTS / "README.md").read_text()
    headers, _, at = signed(name)
    assert WEBHOOK_SECRET in readme
    assert headers["webhook-timestamp"] in readme
    assert datetime.fromisoformat("2026-10-01T10:00:12Z").timestamp() == at


@pytest.mark.parametrize("name", WEBHOOKS)
def test_a_webhook_names_the_provider_and_the_job_in_its_address(name: str) -> None:
    payload = load(f"webhooks/{name}.json")

    told = json.loads(payload["body"])["webhook"]
    host, job = payload["headers"]["host"], payload["queryStringParameters"]["job"]
    assert (
        told
        == f"https://{host}{payload['rawPath']}?{payload['rawQueryString']}"
        == f"https://{host}/replicate?job={job}"
    )
    assert any("FunctionUrlConfig" in properties for properties in HANDLERS.values())


# The edge of the webhooks, with these payloads


def receive(payload: Json) -> Json:
    from webhooks import receive as function

    return function.handler(payload, Context())


def refused(answer: Json, status: int) -> None:
    assert problem(answer)["status"] == status


@pytest.mark.parametrize("name", WEBHOOKS)
def test_a_webhook_of_another_time_is_refused(cloud: Loopback, name: str) -> None:
    payload = load(f"webhooks/{name}.json")
    payload["headers"]["webhook-timestamp"] = "1790848000"

    refused(receive(payload), 401)
    assert [target for target, _ in cloud.seen if target.startswith("DynamoDB")] == []


@pytest.mark.parametrize(
    "changed",
    [
        {"webhook-signature": "v1,forged"},
        {"webhook-signature": ""},
        {"webhook-timestamp": "9" * 5000},
        {"webhook-timestamp": "soon"},
        {"webhook-id": ""},
    ],
)
def test_malformed_missing_and_wrong_give_the_same_401(cloud: Loopback, changed: dict[str, str]) -> None:
    payload = load("webhooks/replicate_succeeded.json")
    payload["headers"] |= changed

    answer = receive(payload)

    refused(answer, 401)
    assert problem(answer)["detail"] == "A valid signature is needed."


@pytest.mark.parametrize(
    ("path", "method"), [("/", "POST"), ("/openai", "POST"), ("/replicate", "GET"), ("/x/y", "POST")]
)
def test_an_address_of_no_provider_is_404(cloud: Loopback, path: str, method: str) -> None:
    payload = load("webhooks/replicate_succeeded.json")
    payload["rawPath"] = path
    payload["requestContext"]["http"] |= {"path": path, "method": method}

    refused(receive(payload), 404)


def test_without_a_secret_webhooks_are_503(cloud: Loopback) -> None:
    cloud.keeps_secrets({})

    refused(receive(load("webhooks/replicate_succeeded.json")), 503)


# The workflow


@pytest.mark.parametrize("name", GENERATION)
def test_a_step_hands_the_requests_id_on_and_logs_it(name: str, log: io.StringIO) -> None:
    state = load(f"generation/{name}.json")

    following = steps.handler(lambda _: steps.Step("await"))(state, Context())

    assert following == {
        "job_id": state["job_id"],
        "next": "await",
        "wait_seconds": 0,
        "request_id": state["request_id"],
    }
    line = json.loads(log.getvalue())
    assert (line["job_id"], line["request_id"]) == (state["job_id"], state["request_id"])


def test_a_step_that_fails_is_raised_with_its_traceback_in_the_log(log: io.StringIO) -> None:
    def surprised(_: steps.State) -> steps.Step:
        raise LookupError("there is no job_1")

    with pytest.raises(LookupError):
        steps.handler(surprised)({"job_id": "job_1"}, Context())

    assert "Traceback" in log.getvalue()


@pytest.mark.parametrize("name", GENERATION)
def test_a_state_of_the_workflow_is_one_that_a_step_could_have_made(name: str) -> None:
    state = load(f"generation/{name}.json")

    made = steps.Step(state["next"], wait_seconds=state["wait_seconds"])
    if name == "fail":
        made = steps.fail(state["ending"], **state["error"])
    # The request's id comes from workflow.start, and every step hands it on.
    assert made.state(state["job_id"]) == {key: value for key, value in state.items() if key != "request_id"}
    assert f"generation.{name}.handler" in HANDLERS


@pytest.mark.parametrize("name", PUBLISHING)
def test_a_state_of_the_publishing_workflow_is_one_that_a_step_could_have_made(name: str) -> None:
    state = load(f"publishing/{name}.json")

    made = publishing_steps.Step(state["next"], wait_seconds=state["wait_seconds"])
    assert made.state(state["publication_id"]) | {"request_id": state["request_id"]} == state
    assert state["next"].startswith(name)
    assert f"publishing.{name}.handler" in HANDLERS


@pytest.mark.parametrize("name", SCHEDULED)
def test_what_is_scheduled_gets_the_schedulers_own_event(name: str) -> None:
    event = load(f"scheduled/{name}.json")

    assert (event["source"], event["detail-type"]) == ("aws.scheduler", "Scheduled Event")
    assert f"scheduled.{name}.handler" in HANDLERS


CREATING = {f"create_{kind.replace('-', '_')}": request for kind, request in REQUESTS.items()}


@pytest.mark.parametrize("name", CREATING)
def test_what_a_payload_asks_for_can_be_had(name: str, environment: pytest.MonkeyPatch) -> None:
    environment.setattr(assets, "find", lambda asset_id, account: ASSETS.get(asset_id))
    request = CREATING[name].model_validate_json(load(f"api/{name}.json")["body"])

    assert accept.offer("alice", request).credits > 0


def test_what_a_batch_asks_for_can_be_had() -> None:
    generations = json.loads(load("api/create_batch.json")["body"])["generations"]

    assert all(offer.credits > 0 for offer in batches.offers("alice", batches.parse(generations)))
    assert len({generation["kind"] for generation in generations}) > 1


def test_what_a_payload_names_is_spelled_as_ours() -> None:
    text = "".join(path.read_text() for path in EVENTS.rglob("*.json"))

    assert set(re.findall(r"\bas_\w+", text)) == {*ASSETS}
    assert {len(found) for found in re.findall(r"\b(?:job|batch|as|pub)_([0-9a-z]{10,})", text)} == {ids.LENGTH}
