"""Pools of keys at the providers: throttled keys rest, keys are rotated without a deploy, jobs keep the key they began
with.

The product runs in this process, as a deployment whose secrets are its own; the deployed workflow finishes its jobs.
"""

import json
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from aws_lambda_powertools.utilities import parameters

from local.cloud import KEY_PREFIXES, Stack
from local.simulator.keys import fingerprint
from shared.jobs import generate, observe, settle, submit, table, workflow
from shared.jobs.requests import ImageRequest, SpeechRequest
from shared.jobs.steps import Step
from shared.jobs.table import Job
from shared.providers import keys
from shared.providers.registry import PREDICTORS
from tests.e2e.helpers import IMAGE, check_paid, check_refunded, eventually, only_prediction
from tests.faults.scenes import CONTEXT, prediction_body, recorded, webhook_event
from tests.inside import forget_answers, inside
from tests.support import Studio
from webhooks import receive

IMAGES = {"replicate": "flux-schnell", "kie": "nano-banana-2", "fal": "fal-flux-dev"}
VOICES = {"openai": "gpt-4o-mini-tts", "elevenlabs": "eleven-multilingual-v2"}
CANCELING = sorted(PREDICTORS - {"kie"})


class Pools:
    """The secrets of this deployment."""

    def __init__(self, stack: Stack, name: str) -> None:
        self._secrets = stack.client("secretsmanager")
        self._name = name
        self._made: set[str] = set()

    def hold(self, provider: str, *names: str) -> list[str]:
        """From now on, and a minute later, the provider's keys are these; what is in their names makes them special."""
        held = [f"{KEY_PREFIXES[provider]}-{name}-{self._name}" for name in names]
        secret, value = f"{self._name}/{provider}", json.dumps({"api_keys": held})
        if secret in self._made:
            self._secrets.put_secret_value(SecretId=secret, SecretString=value)
        else:
            self._secrets.create_secret(Name=secret, SecretString=value)
            self._made.add(secret)
        parameters.clear_caches()
        return held

    def close(self) -> None:
        for secret in self._made:
            self._secrets.delete_secret(SecretId=secret, ForceDeleteWithoutRecovery=True)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock of resting keys; it stands."""
    now = [keys.current_time()]
    monkeypatch.setattr(keys, "current_time", lambda: now[0])
    return now


@pytest.fixture
def pools(stack: Stack, clock: list[float]) -> Iterator[Pools]:
    name = f"pools-{uuid4().hex[:12]}"
    with inside(stack, STACK_NAME=name, TIME_SCALE="1"):
        made = Pools(stack, name)
        yield made
        made.close()


@pytest.fixture
def studio(pools: Pools, new_studio: Callable[..., Studio]) -> Studio:
    return new_studio()


def image(studio: Studio, provider: str, directives: str = "") -> Job:
    return recorded(studio, ImageRequest(prompt=f"a lighthouse {directives}", model=IMAGES[provider]))


def speech(studio: Studio, provider: str) -> Job:
    return recorded(studio, SpeechRequest(text=f"A speech {uuid4().hex}.", model=VOICES[provider]))


def creates(studio: Studio, job: Job) -> list[tuple[str, str]]:
    """The keys that the provider was sent for the job's create calls, as fingerprints, and its answers."""
    return [(create["key"], create["answer"]) for create in studio.simulated(job.id)["creates"]]


def calls(studio: Studio, job: Job) -> list[tuple[str, str]]:
    """The same of a provider that answers at once."""
    return [(call["key"], call["outcome"]) for call in studio.called(job.request["text"])["calls"]]


def told(job: Job) -> Step | None:
    """What the provider says when it is asked; None while the work is not done, or it does not say."""
    step = observe.poll(now(job))
    return None if step.next == "await" else step


def now(job: Job) -> Job:
    found = table.get(job.id)
    assert found is not None
    return found


def finish(studio: Studio, job: Job, step: Step) -> None:
    """Let the deployed workflow go on to the end: it succeeds, and was created once."""
    workflow.start(now(job), step)
    assert studio.wait(job.id)["status"] == "succeeded"
    only_prediction(studio, job.id)


# Throttled


@pytest.mark.parametrize("provider", IMAGES)
def test_a_throttled_key_rests_and_the_next_is_used(
    pools: Pools, clock: list[float], studio: Studio, provider: str
) -> None:
    throttled, good = map(fingerprint, pools.hold(provider, "throttled", "good"))

    first, step = submit.attempt(image(studio, provider))
    second, _ = submit.attempt(image(studio, provider))
    clock[0] += keys.REST_S + 1
    third, _ = submit.attempt(image(studio, provider))

    assert step == Step("await")
    assert creates(studio, first) == [(throttled, "429"), (good, "ok")]
    assert creates(studio, second) == [(good, "ok")]
    assert creates(studio, third) == [(throttled, "429"), (good, "ok")]
    for job in (first, second, third):
        finish(studio, job, Step("poll"))


@pytest.mark.parametrize("provider", VOICES)
def test_a_throttled_key_of_a_provider_that_answers_at_once_rests_and_the_next_is_used(
    pools: Pools, studio: Studio, provider: str
) -> None:
    throttled, good = map(fingerprint, pools.hold(provider, "throttled", "good"))
    first, second = speech(studio, provider), speech(studio, provider)

    assert (generate.generate(first).next, generate.generate(second).next) == ("settle", "settle")

    assert calls(studio, first) == [(throttled, "429"), (good, "ok")]
    assert calls(studio, second) == [(good, "ok")]
    for job in (first, second):
        assert settle.succeed(now(job)).status == "succeeded"


def test_while_every_key_is_throttled_a_job_waits_and_then_succeeds(pools: Pools, studio: Studio) -> None:
    pools.hold("replicate", "throttled-a", "throttled-b")
    job, step = submit.attempt(image(studio, "replicate"))
    assert (job.status, step.next) == ("queued", "backoff")
    step = submit.resume(now(job))
    assert (now(job).status, step.next) == ("queued", "backoff")
    assert [answer for _, answer in creates(studio, job)] == ["429"] * 4

    pools.hold("replicate", "throttled-a", "recovered")
    step = submit.resume(now(job))

    assert [answer for _, answer in creates(studio, job)][4:] == ["ok"]
    finish(studio, job, step)
    check_paid(studio, studio.job(job.id), IMAGE)


def test_while_every_key_is_throttled_a_generation_waits_and_then_succeeds(pools: Pools, studio: Studio) -> None:
    pools.hold("openai", "throttled-a", "throttled-b")
    job = speech(studio, "openai")
    for _ in range(2):
        step = generate.generate(now(job))
        assert (now(job).status, step.next) == ("queued", "generate_again")
    assert [outcome for _, outcome in calls(studio, job)] == ["429"] * 4

    pools.hold("openai", "throttled-a", "recovered")

    assert generate.generate(now(job)).next == "settle"
    assert [outcome for _, outcome in calls(studio, job)][4:] == ["ok"]
    assert settle.succeed(now(job)).status == "succeeded"


@pytest.mark.parametrize("provider", ["replicate", "openai"])
def test_a_job_whose_keys_stay_throttled_times_out_and_costs_nothing(
    pools: Pools, studio: Studio, provider: str
) -> None:
    pools.hold(provider, "throttled-a", "throttled-b")
    if provider == "replicate":
        job, first = submit.attempt(image(studio, provider))[0], Step("submit")
    else:
        job, first = speech(studio, provider), Step("generate")
        generate.generate(job)
    assert now(job).status == "queued"

    reach_deadline(studio.stack, job)
    workflow.start(now(job), first)

    ended = studio.wait(job.id)
    assert (ended["status"], ended["error"]["code"]) == ("timed_out", "provider_unavailable")
    check_refunded(studio, ended)


def reach_deadline(stack: Stack, job: Job) -> None:
    """Let the time pass until the job's deadline."""
    stack.client("dynamodb").update_item(
        TableName=stack.tables["jobs"],
        Key={"id": {"S": job.id}},
        UpdateExpression="SET deadline_at = :then",
        ExpressionAttributeValues={":then": {"N": str(job.accepted_at)}},
    )


def test_a_webhook_is_verified_although_the_first_key_is_throttled(pools: Pools, studio: Studio) -> None:
    pools.hold("replicate", "throttled", "good")
    job, _ = submit.attempt(image(studio, "replicate", "[sim webhook=lost delay=0]"))

    # The receiver is another process: to it, nothing rests.
    forget_answers()
    answer = receive.handler(webhook_event(studio.stack, job.id, prediction_body(studio, job.id)), CONTEXT)

    assert answer["statusCode"] == 200
    assert now(job).result is not None
    finish(studio, job, Step("store"))


@pytest.mark.parametrize("first", ["throttled", "revoked"])
def test_a_lost_answer_is_looked_up_with_every_key(pools: Pools, studio: Studio, first: str) -> None:
    (good,) = pools.hold("replicate", "good")
    job, _ = submit.attempt(image(studio, "replicate", "[sim create=drop-after-accept webhook=lost delay=0]"))
    assert (job.status, job.attempt) == ("submitting", "unknown")

    pools.hold("replicate", first, "good")
    step = submit.resume(now(job))

    assert now(job).provider_key == keys.fingerprint(good)
    finish(studio, job, step)


def test_nothing_is_created_again_while_a_key_cannot_be_asked_with(pools: Pools, studio: Studio) -> None:
    pools.hold("replicate", "good")
    job, _ = submit.attempt(image(studio, "replicate", "[sim create=hang times=1]"))
    past_the_grace(studio.stack, job)

    pools.hold("replicate", "good", "throttled")
    assert submit.resume(now(job)).next == "backoff"
    assert [answer for _, answer in creates(studio, job)] == ["hang"]

    pools.hold("replicate", "good")
    finish(studio, job, submit.resume(now(job)))


def past_the_grace(stack: Stack, job: Job) -> None:
    """Let the time pass after which a prediction that is not listed does not exist."""
    stack.client("dynamodb").update_item(
        TableName=stack.tables["jobs"],
        Key={"id": {"S": job.id}},
        UpdateExpression="SET attempt_at = attempt_at - :minute",
        ExpressionAttributeValues={":minute": {"N": "60"}},
    )


# Rotated


@pytest.mark.parametrize("provider", IMAGES)
def test_a_new_first_key_is_used_for_new_jobs_and_the_old_one_for_what_it_made(
    pools: Pools, studio: Studio, provider: str
) -> None:
    (old,) = pools.hold(provider, "old")
    before, _ = submit.attempt(image(studio, provider, "[sim webhook=lost delay=0]"))
    new, _ = pools.hold(provider, "new", "old")
    after, _ = submit.attempt(image(studio, provider, "[sim webhook=lost delay=0]"))

    assert creates(studio, before) == [(fingerprint(old), "ok")]
    assert creates(studio, after) == [(fingerprint(new), "ok")]
    assert [now(job).provider_key for job in (before, after)] == [keys.fingerprint(old), keys.fingerprint(new)]

    # Only the old key is any good: what it made is still heard of, what another made is asked for with the first.
    pools.hold(provider, "revoked", "old")
    step = eventually(lambda: told(before), timeout=10, what="answer to the old key")
    assert step.next == "store"
    assert told(after) is None

    # The keys of both are gone.
    pools.hold(provider, "newer")
    assert eventually(lambda: told(after), timeout=10, what="answer to the first key").next == "store"
    assert told(before) == step
    for job in (before, after):
        finish(studio, job, Step("store"))


@pytest.mark.parametrize("provider", CANCELING)
def test_a_running_job_is_canceled_with_the_key_that_made_it(pools: Pools, studio: Studio, provider: str) -> None:
    pools.hold(provider, "old")
    job, _ = submit.attempt(image(studio, provider, "[sim outcome=never]"))

    pools.hold(provider, "revoked")
    job = observe.cancel(table.request_cancel(job.id, keys.current_time()))
    assert only_prediction(studio, job.id)["cancel_requests"] == 0
    pools.hold(provider, "revoked", "old")
    job = observe.cancel(job)

    assert only_prediction(studio, job.id)["cancel_requests"] == 1
    workflow.start(job, Step("poll"))
    ended = studio.wait(job.id)
    assert (ended["status"], ended["error"]["code"]) == ("canceled", "canceled")
    check_refunded(studio, ended)


def test_a_rotated_key_of_a_provider_that_answers_at_once_is_used_from_then_on(pools: Pools, studio: Studio) -> None:
    (old,) = pools.hold("openai", "old")
    before = speech(studio, "openai")
    generate.generate(before)
    new, _ = pools.hold("openai", "new", "old")
    after = speech(studio, "openai")
    generate.generate(after)

    assert calls(studio, before) == [(fingerprint(old), "ok")]
    assert calls(studio, after) == [(fingerprint(new), "ok")]
    for job in (before, after):
        assert settle.succeed(now(job)).status == "succeeded"


@pytest.mark.parametrize("provider", IMAGES)
def test_a_key_that_was_revoked_is_passed_over(pools: Pools, studio: Studio, provider: str) -> None:
    _, good = pools.hold(provider, "revoked", "good")

    job, _ = submit.attempt(image(studio, provider))

    assert creates(studio, job) == [(fingerprint(good), "ok")]
    assert list(keys.rested(provider)) == [good]
    finish(studio, job, Step("poll"))


def test_a_key_that_was_revoked_at_a_provider_that_answers_at_once_is_passed_over(pools: Pools, studio: Studio) -> None:
    _, good = pools.hold("openai", "revoked", "good")
    job = speech(studio, "openai")

    assert generate.generate(job).next == "settle"

    assert calls(studio, job) == [(fingerprint(good), "ok")]
    assert list(keys.rested("openai")) == [good]
    assert settle.succeed(now(job)).status == "succeeded"


@pytest.mark.parametrize("provider", IMAGES)
def test_a_key_that_was_revoked_fails_the_job_and_is_not_told_of(pools: Pools, studio: Studio, provider: str) -> None:
    (revoked,) = pools.hold(provider, "revoked")

    job = submit.begin(image(studio, provider))

    ended = studio.job(job.id)
    assert (ended["status"], ended["error"]["code"]) == ("failed", "provider_unavailable")
    assert revoked not in json.dumps(ended)
    assert "key" not in ended["error"]["detail"]
    check_refunded(studio, ended)
