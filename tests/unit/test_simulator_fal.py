"""The simulated fal: its queue, and webhooks proven by Ed25519, as in PROVIDERS.md, 3."""

import base64
import hashlib
from typing import Any

import httpx
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from local.simulator.fal_signing import FalSigner
from tests.unit.test_simulator_common import (
    FAL_SEED,
    Provider,
    Receiver,
    eventually,
    inspected,
    origin,
    probed,
    provider,
    receiver,
    receivers,
    web,
)

__all__ = ["origin", "receiver", "receivers"]


@pytest.fixture
def fal(origin: str) -> Provider:
    return provider(origin, "fal")


def submitted(
    caller: Provider, prompt: str, to: Receiver | None = None, app: str = "fal-ai/flux/dev", **given: Any
) -> dict[str, Any]:
    query = {"fal_webhook": to.url} if to else {}
    answer = caller.post(f"/fal/{app}", {"prompt": prompt, **given}, params=query)
    assert answer.status_code == 200, answer.text
    accepted: dict[str, Any] = answer.json()
    return accepted


def completed(caller: Provider, accepted: dict[str, Any]) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        answer = caller.get(accepted["status_url"])
        body: dict[str, Any] = answer.json()
        assert answer.status_code == (200 if body["status"] == "COMPLETED" else 202)
        return body if body["status"] == "COMPLETED" else None

    return eventually(look)


def running_already(caller: Provider, accepted: dict[str, Any]) -> None:
    eventually(lambda: caller.get(accepted["status_url"]).json()["status"] == "IN_PROGRESS")


def verified(origin: str, headers: httpx.Headers, body: bytes) -> bool:
    """As a receiver does it: against each key of the set."""
    names = ("request-id", "user-id", "timestamp")
    lines = [headers[f"x-fal-webhook-{name}"] for name in names] + [hashlib.sha256(body).hexdigest()]
    signature = bytes.fromhex(headers["x-fal-webhook-signature"])
    for key in web.get(f"{origin}/fal/.well-known/jwks.json").json()["keys"]:
        assert (key["kty"], key["crv"]) == ("OKP", "Ed25519")
        public = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key["x"] + "="))
        try:
            public.verify(signature, "\n".join(lines).encode())
        except InvalidSignature:
            continue
        return True
    return False


def test_the_signature_is_the_vector() -> None:
    identity = "123e4567-e89b-12d3-a456-426614174000"
    body = b'{"request_id":"123e4567-e89b-12d3-a456-426614174000","status":"OK","payload":{}}'

    signer = FalSigner(FAL_SEED)

    assert signer.x == "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"
    assert signer.sign(identity, "user_test", 1700000000, body) == (
        "4b0fece768f51b8fa4b4b1006bd2d2369ac589ba0be16217c86dc2af2e5f6b1e"
        "3b1aad9c9a2c0162a9d6740950cd7fa28e5e873e2e3c97bd8e7b924852ca2d0a"
    )


def test_a_request_goes_through_the_queue(fal: Provider, origin: str) -> None:
    accepted = submitted(fal, "a boat [sim delay=0.5]", image_size="landscape_16_9", seed=42)
    waiting = fal.get(accepted["status_url"])
    early = fal.get(accepted["response_url"])
    running_already(fal, accepted)
    running = fal.get(f"{accepted['status_url']}?logs=1").json()
    last = completed(fal, accepted)
    result = fal.get(accepted["response_url"]).json()

    assert (accepted["status"], accepted["queue_position"]) == ("IN_QUEUE", 0)
    assert accepted["request_id"] == accepted["gateway_request_id"]
    assert accepted["response_url"] == f"{origin}/fal/fal-ai/flux/requests/{accepted['request_id']}"
    assert (waiting.status_code, waiting.json()["status"]) == (202, "IN_QUEUE")
    assert early.status_code == 400
    assert running["logs"][0]["message"].endswith("/28")
    assert last["metrics"]["inference_time"] > 0
    assert "error" not in last
    picture = result["images"][0]
    assert (picture["width"], picture["height"], picture["content_type"]) == (768, 432, "image/png")
    assert (result["seed"], result["has_nsfw_concepts"]) == (42, [False])
    assert web.get(picture["url"]).content.startswith(b"\x89PNG")


def test_a_webhook_carries_the_result_and_verifies(fal: Provider, origin: str, receiver: Receiver) -> None:
    accepted = submitted(fal, "a boat [sim delay=0.05]", receiver)
    eventually(lambda: receiver.seen)

    headers, body = receiver.seen[0]
    told = receiver.bodies[0]
    assert verified(origin, headers, body)
    assert headers["x-fal-webhook-request-id"] == accepted["request_id"]
    assert (told["request_id"], told["status"]) == (accepted["request_id"], "OK")
    assert told["payload"] == fal.get(accepted["response_url"]).json()


@pytest.mark.parametrize("fault", ["forged", "stale", "tampered", "unsigned", "big"])
def test_bad_proof(fal: Provider, origin: str, receiver: Receiver, fault: str) -> None:
    submitted(fal, f"a boat [sim delay=0 webhook={fault}]", receiver)
    eventually(lambda: receiver.seen)

    headers, body = receiver.seen[0]
    if fault == "unsigned":
        assert "x-fal-webhook-signature" not in headers
    else:
        assert verified(origin, headers, body) == (fault in ("stale", "big"))


def test_the_gateway_may_have_run_it_again(fal: Provider, receiver: Receiver) -> None:
    accepted = submitted(fal, "a boat [sim delay=0 gateway=new]", receiver)
    eventually(lambda: receiver.seen)

    assert receiver.bodies[0]["request_id"] == accepted["request_id"] != receiver.bodies[0]["gateway_request_id"]


def test_what_failed_is_completed_with_an_error(fal: Provider, receiver: Receiver) -> None:
    accepted = submitted(fal, "a boat [sim delay=0.05 outcome=failed]", receiver)
    last = completed(fal, accepted)
    eventually(lambda: receiver.seen)
    result = fal.get(accepted["response_url"])

    assert (last["error"], last["error_type"]) == ("Runner disconnected", "runner_disconnected")
    assert (result.status_code, result.headers["x-fal-error-type"]) == (500, "runner_disconnected")
    assert result.json()["detail"] == "Runner disconnected"
    assert (receiver.bodies[0]["status"], receiver.bodies[0]["error"]) == ("ERROR", "Runner disconnected")


def test_a_refusal_is_completed_and_422_at_the_result(fal: Provider, receiver: Receiver) -> None:
    accepted = submitted(fal, "a boat [sim delay=0 outcome=refused]", receiver)
    last = completed(fal, accepted)
    eventually(lambda: receiver.seen)
    result = fal.get(accepted["response_url"])

    assert "error" not in last
    assert result.status_code == 422
    assert result.json()["detail"][0]["type"] == "content_policy_violation"
    assert receiver.bodies[0]["error"] == "Invalid status code: 422"
    assert receiver.bodies[0]["payload"]["detail"] == result.json()["detail"]


def test_an_input_that_cannot_be_had(fal: Provider) -> None:
    accepted = submitted(fal, "[sim delay=0]", app="fal-ai/kling-video/v2", image_url="http://127.0.0.1:9/a.png")
    completed(fal, accepted)

    result = fal.get(accepted["response_url"])

    assert result.status_code == 422
    detail = result.json()["detail"][0]
    assert (detail["type"], detail["loc"]) == ("file_download_error", ["body", "image_url"])


def test_other_kinds_have_their_own_results(fal: Provider) -> None:
    def result(app: str, **given: Any) -> dict[str, Any]:
        accepted = submitted(fal, "[sim delay=0 seconds=2]", app=app, **given)
        completed(fal, accepted)
        found: dict[str, Any] = fal.get(accepted["response_url"]).json()
        return found

    film = result("fal-ai/veo3")["video"]
    song = result("fal-ai/stable-audio")["audio"]
    stems = result("fal-ai/demucs", audio_url=song["url"])
    transcript = result("fal-ai/whisper", audio_url=song["url"])

    assert (film["content_type"], song["content_type"]) == ("video/mp4", "audio/mpeg")
    assert probed(web.get(film["url"]).content)[0] == pytest.approx(2, abs=0.1)
    assert probed(web.get(stems["vocals"]["url"]).content)[0] == pytest.approx(2, abs=0.1)
    assert transcript["chunks"][0]["timestamp"][0] == 0
    assert transcript["text"]


@pytest.mark.parametrize(
    ("words", "payload"),
    [("output=empty", {}), ("output=nourls", [])],
)
def test_a_result_of_another_shape(fal: Provider, words: str, payload: object) -> None:
    accepted = submitted(fal, f"[sim delay=0 {words}]")
    completed(fal, accepted)

    result = fal.get(accepted["response_url"]).json()

    assert (result if words.endswith("empty") else result["images"]) == payload


def test_a_payload_that_is_not_json(fal: Provider, receiver: Receiver) -> None:
    submitted(fal, "[sim delay=0 output=notjson]", receiver)
    eventually(lambda: receiver.seen)

    assert (receiver.bodies[0]["status"], receiver.bodies[0]["payload"]) == ("OK", None)
    assert receiver.bodies[0]["payload_error"].startswith("Response payload is not JSON serializable")


def test_a_cost_is_reported(fal: Provider) -> None:
    accepted = submitted(fal, "[sim delay=0 cost=12.5]")

    assert completed(fal, accepted)["metrics"] == {"inference_time": 12.5}
    assert fal.get(accepted["response_url"]).headers["x-fal-billable-units"] == "12.5"


# Cancel


def cancel(caller: Provider, accepted: dict[str, Any]) -> tuple[int, str]:
    answer = caller.call("PUT", accepted["cancel_url"])
    return answer.status_code, answer.json()["status"]


def test_what_waits_is_removed(fal: Provider) -> None:
    accepted = submitted(fal, "[sim delay=9]")

    assert cancel(fal, accepted) == (200, "OK")
    assert completed(fal, accepted)["error_type"] == "client_cancelled"


def test_what_runs_is_asked_to_stop(fal: Provider, receiver: Receiver) -> None:
    accepted = submitted(fal, "[sim delay=0.3 outcome=never]", receiver)
    running_already(fal, accepted)

    assert cancel(fal, accepted) == (202, "CANCELLATION_REQUESTED")
    eventually(lambda: receiver.seen)
    assert receiver.bodies[0]["status"] == "ERROR"


def test_what_was_asked_to_stop_may_succeed(fal: Provider, receiver: Receiver) -> None:
    accepted = submitted(fal, "[sim delay=0.3 cancel=ignored]", receiver)
    running_already(fal, accepted)

    assert cancel(fal, accepted) == (202, "CANCELLATION_REQUESTED")
    eventually(lambda: receiver.seen)
    assert receiver.bodies[0]["status"] == "OK"
    assert cancel(fal, accepted) == (400, "ALREADY_COMPLETED")


def test_nothing_to_cancel(fal: Provider) -> None:
    assert cancel(fal, {"cancel_url": "/fal/fal-ai/flux/requests/none/cancel"}) == (404, "NOT_FOUND")


# Creates


@pytest.mark.parametrize(
    ("word", "status"), [("429", 429), ("429bare", 429), ("402", 403), ("500", 500), ("502html", 502)]
)
def test_a_submit_that_goes_wrong(fal: Provider, origin: str, receiver: Receiver, word: str, status: int) -> None:
    body, query = {"prompt": f"[sim create={word} times=1 delay=0]"}, {"fal_webhook": receiver.url}

    first, second = (fal.post("/fal/fal-ai/flux", body, params=query) for _ in range(2))

    assert (first.status_code, second.status_code) == (status, 200)
    assert ("retry-after" in first.headers) == (word == "429")
    assert inspected(origin, receiver.url)["prediction_count"] == 1


def test_a_submit_dropped_after_it_was_accepted_runs(fal: Provider, receiver: Receiver) -> None:
    with pytest.raises(httpx.TransportError):
        submitted(fal, "[sim create=drop-after-accept delay=0]", receiver)

    eventually(lambda: receiver.seen)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("fal-ai/flux?fal_webhook=ftp://x", {"prompt": "x"}),
        ("fal-ai/flux", {"prompt": 7}),
        ("fal-ai/flux", {"prompt": "x", "image_size": "wide"}),
        ("fal-ai/flux", {"prompt": "[sim create=455]"}),
    ],
)
def test_a_bad_submit_is_422_with_a_list(fal: Provider, path: str, body: dict[str, Any]) -> None:
    answer = fal.post(f"/fal/{path}", body)

    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][0] == "body"
