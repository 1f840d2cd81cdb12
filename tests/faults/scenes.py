"""Jobs brought to the point where one handler is next, with nobody else working on them."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx

from api import cancel_job, create_batch, create_image
from api.create_speech import handler as create_speech_handler
from generation import fail, generate, poll, settle, store
from generation import submit as submit_step
from local.cloud import Stack
from local.simulator.delivery import standard_signers
from shared.core import ids
from shared.jobs import accept, decide, submit, sweep, table, workflow
from shared.jobs.requests import ImageRequest, Request, SpeechRequest
from shared.jobs.steps import Step
from shared.jobs.table import Job
from tests.support import Json, Studio
from webhooks import receive

# One for all: making a client costs more than a request.
web = httpx.Client(trust_env=False, verify=False, timeout=30)
CONTEXT = SimpleNamespace(aws_request_id="test", get_remaining_time_in_millis=lambda: 50_000)


@dataclass(frozen=True)
class Scene:
    """A job, the handler that is next, and what its caller does if that handler fails; `text` is in the request."""

    job_id: str
    run: Callable[[], Any]
    repeat: Callable[[], object] = lambda: None
    text: str = ""


def accepted(studio: Studio, prompt: str) -> Job:
    """The job as it is when the process dies right after the transaction."""
    return recorded(studio, ImageRequest(prompt=prompt))


def recorded(studio: Studio, request: Request) -> Job:
    made = accept.offer(studio.account, request)
    return accept.accept(studio.account, request, made, idempotency_key=None, request_id=uuid4().hex).job


def attempted(studio: Studio, prompt: str) -> Job:
    """As it is when the process dies before it could start the workflow."""
    return submit.attempt(accepted(studio, prompt))[0]


def awaited(studio: Studio, prompt: str) -> Job:
    """With an execution that has left its task token and waits."""
    job = attempted(studio, prompt)
    workflow.start(job, Step("await"))
    return until(lambda: found(job.id, lambda now: now.task_token is not None))


def ended(studio: Studio, prompt: str) -> tuple[Job, Json]:
    """With the prediction's end written down, and what the workflow's next state gets."""
    job = attempted(studio, f"{prompt} [sim webhook=lost delay=0]")
    state = until(lambda: said(poll.handler({"job_id": job.id}, None)))
    return job, state


def said(state: Json) -> Json | None:
    return None if state["next"] == "await" else state


def found(job_id: str, wanted: Callable[[Job], bool]) -> Job | None:
    job = table.get(job_id)
    return job if job is not None and wanted(job) else None


def until[T](ask: Callable[[], T | None], timeout: float = 20) -> T:
    deadline = time.monotonic() + timeout
    while (answer := ask()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return answer


def create(directives: str) -> Callable[[Studio], Scene]:
    def scene(studio: Studio) -> Scene:
        key, prompt = uuid4().hex, f"a create {directives}"
        event = api_event(studio, "/v1/images", {"prompt": prompt}, {"idempotency-key": key})
        return Scene(
            ids.derived("job", studio.account, key),
            lambda: create_image.handler(event, CONTEXT),
            repeat=lambda: studio.create(prompt, key=key),
        )

    return scene


def create_speech(studio: Studio) -> Scene:
    key, text = uuid4().hex, f"a speech {uuid4().hex}"
    event = api_event(studio, "/v1/speech", {"text": text}, {"idempotency-key": key})
    return Scene(
        ids.derived("job", studio.account, key),
        lambda: create_speech_handler(event, CONTEXT),
        # Here too, so that the job has AWS's deadlines.
        repeat=lambda: create_speech_handler(event, CONTEXT),
        text=text,
    )


def submit_queued(studio: Studio) -> Scene:
    """The provider was throttled; the next attempt is due."""
    job = attempted(studio, "a second attempt [sim create=429 times=1 webhook=lost]")
    return Scene(job.id, lambda: submit_step.handler({"job_id": job.id}, None))


def submit_lost(studio: Studio) -> Scene:
    """The provider has created it, and its answer was lost."""
    job = attempted(studio, "a lost answer [sim create=drop-after-accept webhook=lost]")
    return Scene(job.id, lambda: submit_step.handler({"job_id": job.id}, None))


def poll_ended(studio: Studio) -> Scene:
    job = attempted(studio, "a poll [sim webhook=lost delay=0]")
    return Scene(job.id, lambda: poll.handler({"job_id": job.id}, None))


def store_result(studio: Studio) -> Scene:
    job, state = ended(studio, "a file")
    return Scene(job.id, lambda: store.handler(state, None))


def generate_speech(studio: Studio) -> Scene:
    """A provider that answers at once is next; nobody calls it again before the first attempt is certainly dead."""
    text = f"a speech {uuid4().hex}"
    job = recorded(studio, SpeechRequest(text=text))
    return Scene(
        job.id,
        lambda: generate.handler({"job_id": job.id}, None),
        repeat=lambda: age(studio.stack, job.id, decide.GENERATE_LIMIT_S + 1),
        text=text,
    )


def settle_stored(studio: Studio) -> Scene:
    job, state = ended(studio, "a settlement")
    state = store.handler(state, None)
    return Scene(job.id, lambda: settle.handler(state, None))


def fail_failed(studio: Studio) -> Scene:
    job = attempted(studio, "a failure [sim webhook=lost delay=0 outcome=failed]")
    state = until(lambda: said(poll.handler({"job_id": job.id}, None)))
    return Scene(job.id, lambda: fail.handler(state, None))


def receive_webhook(studio: Studio) -> Scene:
    """An execution waits, and the webhook is at the door."""
    job = awaited(studio, "a webhook [sim webhook=lost delay=0]")
    event = webhook_event(studio.stack, job.id, prediction_body(studio, job.id))
    return Scene(job.id, lambda: receive.handler(event, CONTEXT))


def cancel_running(studio: Studio) -> Scene:
    return _cancel(studio, awaited(studio, "a cancel [sim outcome=never webhook=lost]"))


def cancel_queued(studio: Studio) -> Scene:
    return _cancel(studio, attempted(studio, "a cancel in the queue [sim create=429]"))


def _cancel(studio: Studio, job: Job) -> Scene:
    event = api_event(studio, f"/v1/jobs/{job.id}/cancel", None, {})

    def repeat() -> None:
        # A caller may lose interest: only a request that was never taken down is for the caller to repeat.
        if found(job.id, lambda now: not now.terminal and now.cancel_requested_at is None):
            assert studio.http.post(f"/jobs/{job.id}/cancel").status_code == 200

    return Scene(job.id, lambda: cancel_job.handler(event, CONTEXT), repeat)


def batch_of(number: int) -> list[Json]:
    """Generations of two kinds, in turns."""
    image, speech = {"kind": "image", "prompt": "one of many [sim delay=0]"}, {"kind": "speech", "text": "One of many."}
    return [image if each % 2 == 0 else speech for each in range(number)]


def create_many(studio: Studio, number: int) -> Scene:
    """A batch; its id is the scene's."""
    key, body = uuid4().hex, {"generations": batch_of(number)}
    event = api_event(studio, "/v1/batches", body, {"idempotency-key": key})
    return Scene(
        ids.derived("batch", studio.account, key),
        lambda: create_batch.handler(event, CONTEXT),
        repeat=lambda: repeated(lambda: create_batch.handler(event, CONTEXT)),
    )


def repeated(request: Callable[[], Json]) -> None:
    """The caller asks once more, here rather than at the deployed function, whose jobs would have less time."""
    assert request()["statusCode"] == 202


def sweep_orphan(studio: Studio) -> Scene:
    """An execution died long ago; the sweeper comes."""
    job = attempted(studio, "an orphan [sim webhook=lost delay=0]")
    workflow.start(job, Step("await"))
    execution = execution_arn(studio.stack, job.id)
    studio.stack.client("stepfunctions").stop_execution(executionArn=execution)
    make_due(studio.stack, job.id)
    return Scene(job.id, lambda: sweep._look_after(job.id, sweep.Round()))


def sweep_waiting(studio: Studio) -> Scene:
    """The webhook was lost and the execution waits; the sweeper asks in its place."""
    job = awaited(studio, "a lost webhook [sim webhook=lost delay=0]")
    until(lambda: ended_prediction(studio, job.id))
    make_due(studio.stack, job.id)
    return Scene(job.id, lambda: sweep._look_after(job.id, sweep.Round()))


def execution_arn(stack: Stack, name: str) -> str:
    return stack.state_machines["generation"].replace(":stateMachine:", ":execution:") + f":{name}"


def make_due(stack: Stack, job_id: str) -> None:
    """Let the time pass until the sweeper looks at the job; a job that is over stays out of its sight."""
    client = stack.client("dynamodb")
    with suppress(client.exceptions.ConditionalCheckFailedException):
        client.update_item(
            TableName=stack.tables["jobs"],
            Key={"id": {"S": job_id}},
            UpdateExpression="SET sweep_at = :now",
            ConditionExpression="attribute_exists(sweep_at)",
            ExpressionAttributeValues={":now": {"N": str(time.time())}},
        )


def age(stack: Stack, job_id: str, seconds: int) -> None:
    """Let the time since the last create attempt pass."""
    stack.client("dynamodb").update_item(
        TableName=stack.tables["jobs"],
        Key={"id": {"S": job_id}},
        UpdateExpression="SET attempt_at = attempt_at - :seconds",
        ExpressionAttributeValues={":seconds": {"N": str(seconds)}},
    )


def prediction_body(studio: Studio, job_id: str) -> bytes:
    """The prediction as the provider's webhook would carry it, once it has ended."""
    prediction_id = until(lambda: ended_prediction(studio, job_id))
    url = f"{studio.stack.parameters['ReplicateBaseUrl']}/predictions/{prediction_id}"
    return web.get(url, headers={"authorization": "Bearer r8_test"}).content


def ended_prediction(studio: Studio, job_id: str) -> str | None:
    predictions = studio.simulated(job_id)["predictions"]
    return next((item["id"] for item in predictions if item["completed"]), None)


def signed(stack: Stack, body: bytes) -> dict[str, str]:
    """The headers with which the provider proves itself."""
    url = f"{stack.parameters['ReplicateBaseUrl']}/webhooks/default/secret"
    secret = web.get(url, headers={"authorization": "Bearer r8_test"}).json()["key"]
    signer, _ = standard_signers(secret)
    return {"content-type": "application/json", **signer(body, int(time.time()))}


def deliver(stack: Stack, job_id: str, body: bytes) -> httpx.Response:
    """A webhook to the deployed receiver."""
    url = f"{stack.webhook_url}/replicate"
    return web.post(url, params={"job": job_id}, content=body, headers=signed(stack, body))


def webhook_event(stack: Stack, job_id: str, body: bytes) -> Json:
    return {
        "version": "2.0",
        "rawPath": "/replicate",
        "rawQueryString": f"job={job_id}",
        "queryStringParameters": {"job": job_id},
        "headers": signed(stack, body),
        "requestContext": {
            "requestId": uuid4().hex,
            "http": {"method": "POST", "path": "/replicate", "sourceIp": "127.0.0.1"},
        },
        "body": body.decode(),
        "isBase64Encoded": False,
    }


def api_event(studio: Studio, path: str, body: Json | None, headers: dict[str, str]) -> Json:
    authorization = {"authorization": f"Bearer {studio.stack.token(studio.account)}"}
    return {
        "version": "2.0",
        "routeKey": f"POST {path}",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"content-type": "application/json", **authorization, **headers},
        "requestContext": {
            "requestId": uuid4().hex,
            "stage": "$default",
            "http": {"method": "POST", "path": path, "sourceIp": "127.0.0.1", "userAgent": "test"},
        },
        "body": json.dumps(body) if body is not None else None,
        "isBase64Encoded": False,
    }
