"""The Generate step against AWS and a provider on loopback: when it claims, what it calls, and what it keeps."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from shared.core import dynamo
from shared.core.dynamo import Refused
from shared.jobs import generate, store, submit, table
from shared.jobs.steps import Step, fail
from shared.jobs.table import Job
from shared.providers.outcomes import ModelGone, Output, Prediction
from tests.unit.films import sound
from tests.unit.helpers import Answer, Json, Loopback, job
from tests.unit.test_media import picture

UPDATE = "DynamoDB_20120810.UpdateItem"
MODEL_GONE = fail("failed", "model_gone", "The model is not on offer any more.")


def queued(**changes: Any) -> Job:
    """A speech that was accepted a moment ago."""
    now = time.time()
    values: Json = {
        "kind": "speech",
        "model": "gpt-4o-mini-tts",
        "provider": "openai",
        "provider_model": "speech:gpt-4o-mini-tts",
        "status": "queued",
        "request": {"text": "Hello", "voice": "coral", "format": "wav"},
        "accepted_at": now,
        "deadline_at": now + 300,
        "abandon_at": now + 900,
    }
    return job(**{**values, **changes})


def updated(request: bytes) -> Json:
    """The values that an UpdateItem writes, by their names in its expression."""
    values = json.loads(request)["ExpressionAttributeValues"]
    return dynamo.plain({name.removeprefix(":"): value for name, value in values.items()})


def told(status: int, **document: Any) -> Answer:
    return status, {}, json.dumps(document).encode()


def refusal(met: Job) -> Answer:
    item = dynamo.attributes(met.item())
    return told(400, __type="com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException", Item=item)


Says = Callable[[Json], Answer]


@pytest.fixture
def updates(cloud: Loopback, environment: pytest.MonkeyPatch) -> Callable[[Says], list[Json]]:
    """Answer every UpdateItem by its values; the list is what was asked for."""
    environment.setattr(time, "sleep", lambda _: None)

    def answer(says: Says) -> list[Json]:
        asked: list[Json] = []

        def update(request: bytes) -> Answer:
            asked.append(updated(request))
            return says(asked[-1])

        cloud.answers[UPDATE] = update
        return asked

    return answer


# The claim


def claimed(before: Job, values: Json) -> Job:
    """The job after a claim with these values."""
    return job(
        **{**before.fields(), "status": "submitting", "attempt": "open", "attempts": 1, "claim": values["claim"]}
    )


def test_the_repeat_of_a_claim_whose_answer_was_lost_knows_itself(updates: Callable[[Says], list[Json]]) -> None:
    before = queued()
    asked = updates(lambda values: told(500) if len(asked) == 1 else refusal(claimed(before, values)))

    found = table.claim_attempt(before, time.time())

    assert (found.status, found.attempt, found.attempts, len(asked)) == ("submitting", "open", 1, 2)
    assert found.claim == asked[0]["claim"] == asked[1]["claim"]


@pytest.mark.parametrize(
    "changes", [{"claim": "claim_of_another"}, {"claim": None}, {"attempt": "none"}, {"status": "canceled"}]
)
def test_a_claim_that_is_not_its_own_or_not_open_is_anothers(
    updates: Callable[[Says], list[Json]], changes: Json
) -> None:
    before = queued()
    updates(lambda values: refusal(job(**{**claimed(before, values).fields(), **changes})))

    with pytest.raises(Refused):
        table.claim_attempt(before, time.time())


@pytest.mark.parametrize("landed", [True, False])
def test_a_claim_without_an_answer_is_given_back(updates: Callable[[Says], list[Json]], landed: bool) -> None:
    before = queued()

    def says(values: Json) -> Answer:
        if "next" in values:
            return told(500)
        return told(200, Attributes=dynamo.attributes(before.item())) if landed else refusal(before)

    asked = updates(says)

    with pytest.raises(ClientError):
        table.claim_attempt(before, time.time())

    assert [values.get("next") for values in asked] == [1, 1, 1, None]
    assert {values["claim"] for values in asked} == {asked[0]["claim"]}


def test_two_claims_have_different_names(updates: Callable[[Says], list[Json]]) -> None:
    before = queued()
    asked = updates(lambda values: told(200, Attributes=dynamo.attributes(claimed(before, values).item())))

    table.claim_attempt(before, time.time())
    table.claim_attempt(before, time.time())

    assert asked[0]["claim"] != asked[1]["claim"]


# The call


@pytest.fixture
def openai(cloud: Loopback, environment: pytest.MonkeyPatch) -> Loopback:
    """OpenAI on loopback, with everything that a generation needs of AWS; the bucket is `media`."""
    environment.setenv("OPENAI_BASE_URL", cloud.url)
    environment.setenv("ALLOWED_PRIVATE_ORIGINS", cloud.url)
    cloud.keeps_secrets({"atelier/openai": json.dumps({"api_keys": ["sk-a-key-for-tests"]})})
    cloud.keeps_objects("media")
    cloud.says("DynamoDB_20120810.GetItem", {})
    cloud.says("DynamoDB_20120810.TransactWriteItems", {})
    return cloud


def generated(server: Loopback, before: Job) -> Step:
    """The Generate step of a job that nobody else touches."""
    item = dynamo.attributes(claimed(before, {"claim": "claim_1"}).item())

    def update(request: bytes) -> Answer:
        announced = dynamo.attributes({"announced_at": updated(request).get("now", 0)})
        return told(200, Attributes=announced if is_of_asset(request) else item)

    server.answers[UPDATE] = update
    return generate.generate(before)


def is_of_asset(request: bytes) -> bool:
    return bool(json.loads(request)["TableName"] == "assets")


def said(server: Loopback) -> list[Json]:
    """What the job was told, write by write."""
    return [updated(request) for name, request in server.seen if name == UPDATE and not is_of_asset(request)]


def test_a_sound_is_kept_and_the_attempt_is_claimed_right_before_the_call(openai: Loopback) -> None:
    openai.says("/audio/speech", sound("audio/wav"), content_type="audio/wav")

    assert generated(openai, queued()) == Step("settle")

    names = [name for name, _ in openai.seen]
    call = names.index("/audio/speech")
    assert names[call - 1] == UPDATE
    assert names.index("secretsmanager.GetSecretValue") < call - 1
    assert said(openai)[-1]["assets"][0]["duration_s"] == 3


def test_whoever_finds_the_attempt_claimed_calls_nobody(openai: Loopback) -> None:
    openai.says("/audio/speech", sound("audio/wav"), content_type="audio/wav")
    openai.answers[UPDATE] = lambda _: refusal(queued(status="submitting", attempt="open", claim="claim_of_another"))

    assert generate.generate(queued()) == Step("done")

    assert "/audio/speech" not in [name for name, _ in openai.seen]


def test_a_provider_that_is_left_alone_costs_no_claim(openai: Loopback) -> None:
    until = dynamo.attributes({"id": "openai", "state": "OPEN", "opened_at": int(time.time()), "failure_count": 5})
    openai.says("DynamoDB_20120810.GetItem", {"Item": until})

    step = generated(openai, queued())

    assert step.next == "generate_again"
    assert said(openai) == []


@pytest.mark.parametrize("part", [0.4, 0.9, 0.999])
def test_half_a_sound_is_no_result(openai: Loopback, part: float) -> None:
    data = sound("audio/wav")
    openai.says("/audio/speech", data[: int(len(data) * part)], content_type="audio/wav")

    step = generated(openai, queued())

    assert (step.next, step.failure and step.failure.code) == ("fail", "bad_output")
    assert openai.buckets["media"] == {}


IMAGE: Json = {
    "kind": "image",
    "model": "gpt-image-1",
    "provider_model": "images:dall-e-3",
    "request": {"prompt": "a lighthouse", "count": 1, "aspect_ratio": "1:1"},
}


def test_an_image_that_is_only_named_is_fetched(openai: Loopback) -> None:
    data = picture()
    openai.says("/images/generations", {"created": 1, "data": [{"url": f"{openai.url}/files/1.png"}]})
    openai.says("/files/1.png", data, content_type="image/png")

    assert generated(openai, queued(**IMAGE)) == Step("settle")

    assert list(openai.buckets["media"].values()) == [data]


@pytest.mark.parametrize(
    ("url", "reason"),
    [("https://127.0.0.1/latest/meta-data", "its address is refused"), ("{}/files/none.png", "status 404")],
)
def test_an_image_that_cannot_be_fetched_is_no_result(openai: Loopback, url: str, reason: str) -> None:
    openai.says("/images/generations", {"created": 1, "data": [{"url": url.format(openai.url)}]})

    step = generated(openai, queued(**IMAGE))

    assert step.failure is not None
    assert step.failure.code == "bad_output"
    assert reason in step.failure.detail


# A model that the catalogue has no more


def test_a_job_of_a_model_that_is_gone_fails_and_calls_nobody(openai: Loopback) -> None:
    assert generated(openai, queued(model="withdrawn")) == MODEL_GONE
    assert openai.seen == []


@pytest.mark.parametrize("changes", [{"model": "withdrawn"}, {"provider": "gone"}])
def test_an_attempt_for_a_model_or_provider_that_is_gone_creates_nothing(cloud: Loopback, changes: Json) -> None:
    with pytest.raises(ModelGone) as raised:
        submit.attempt(job(status="submitting", attempt="open", **changes))

    assert raised.value.failure == MODEL_GONE.failure
    assert cloud.seen == []


def test_the_outputs_of_a_model_that_is_gone_are_as_many_as_were_asked_for() -> None:
    gone = job(model="withdrawn", request={"prompt": "x", "count": 2})
    outputs = tuple(Output(f"https://files.test/{number}.png") for number in range(5))

    assert store._wanted(gone, Prediction("p", "succeeded", outputs)) == outputs[:2]
    assert store._largest(gone) >= store._largest(job())
