"""What a generation costs in time, in AWS calls and in state transitions."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from statistics import median
from uuid import uuid4

import pytest

from local.cloud import Stack
from tests.e2e.helpers import POLL_S, PORTRAIT, Provider, Recording, at_once, eventually, only_prediction
from tests.support import TERMINAL, Json, Studio, history, rows, sweep

POST_S = 0.3
ROUND_TRIPS = 4
VISIBLE_S = 1.0
TRANSITIONS = 6
TIME_SCALE = 0.03
VIDEO_S, IMAGE_S = 20 * 60 * TIME_SCALE, 4 * TIME_SCALE
"""What takes twenty minutes and four seconds, on the local TimeScale."""


@pytest.fixture(scope="module")
def warm(stack: Stack) -> Iterator[Studio]:
    """An account whose portraits meet functions that have answered before, and a moment ago."""
    studio = Studio(stack, f"costs-{uuid4().hex[:12]}")
    studio.grant(1000)
    for job in at_once([lambda: studio.create("[sim]", kind="portraits")] * 2):
        studio.wait(job["id"])
    for _ in range(3):
        studio.wait(studio.create("[sim]", kind="portraits")["id"])
    yield studio
    studio.check_invariants()
    studio.close()


def test_a_warm_post_adds_less_than_300_ms_to_the_providers_time(warm: Studio, provider: Provider) -> None:
    """Measured in turns, so that a machine under load slows both."""
    body = {"input": {"prompt": "[sim delay=60]", "aspect_ratio": "3:4", "num_outputs": 1}}
    ours, theirs, jobs = [], [], []
    for _ in range(9):
        begun = time.perf_counter()
        answer = provider.api.post("/models/black-forest-labs/flux-dev/predictions", json=body)
        theirs.append(time.perf_counter() - begun)
        assert answer.status_code == 201
        begun = time.perf_counter()
        jobs.append(warm.create("[sim delay=2.5]", kind="portraits"))
        ours.append(time.perf_counter() - begun)

    assert median(ours) - median(theirs) < POST_S, f"{ours} against {theirs}"
    for job in jobs:
        assert warm.wait(job["id"])["status"] == "succeeded"


def test_a_warm_post_makes_at_most_four_round_trips_to_aws(warm: Studio, recording: Recording) -> None:
    """The limit, the account with the hold and the job, the prediction's id, the workflow.

    With its secrets, the provider's circuit and what was revoked at hand: they are read once a minute or once in ten
    seconds. And with the account as this process has left it: one that a job's end has changed elsewhere is told by the
    refusal of the transaction, which costs one more. Such requests are measured again.
    """
    measured: list[list[str]] = []
    jobs = []
    for _ in range(20):
        begun = time.time()
        jobs.append(warm.create("[sim delay=5]", kind="portraits"))
        answered = time.time()
        names = [
            event["EventName"]
            for event in recording.events("CreatePortraitFunction")
            if begun <= event["EventTime"].timestamp() <= answered
        ]
        known = not {"GetSecretValue", "GetItem", "BatchGetItem"} & set(names)
        if known and names.count("TransactWriteItems") == 1:
            measured.append(names)
        if len(measured) == 5:
            break

    assert len(measured) == 5
    for names in measured:
        assert Counter(names) == Counter(["UpdateItem", "TransactWriteItems", "UpdateItem", "StartExecution"])
        assert len(names) <= ROUND_TRIPS
    for job in jobs:
        warm.wait(job["id"])


def test_a_success_is_visible_within_a_second_of_its_webhook(warm: Studio) -> None:
    took = []
    for _ in range(5):
        job = warm.create("[sim delay=0.5]", kind="portraits")
        seen = _seen_succeeded(warm, job["id"])
        (sent,) = [one["at"] for one in only_prediction(warm, job["id"])["deliveries"] if one["event"] == "completed"]
        took.append(seen - sent)

    assert median(took) < VISIBLE_S, took


def _seen_succeeded(studio: Studio, job_id: str) -> float:
    def look() -> float | None:
        status = studio.job(job_id)["status"]
        now = time.time()
        assert status in ("processing", "storing", "succeeded")
        return now if status == "succeeded" else None

    return eventually(look, timeout=30, what="success")


def test_a_generation_that_gets_its_webhook_takes_at_most_six_transitions(warm: Studio) -> None:
    """Whatever its duration, and however it ends."""
    directives = (
        "delay=0",
        "delay=0.3",
        "delay=2",
        f"delay={POLL_S - 5}",
        "delay=1 outcome=failed",
        "delay=1 outcome=canceled",
        "webhook=early",
    )
    jobs = at_once([lambda words=words: warm.create(f"[sim {words}]", kind="portraits") for words in directives])
    for job in jobs:
        warm.wait(job["id"])

    for job, words in zip(jobs, directives, strict=True):
        assert len(_states(history(warm.stack, job["id"]))) == 5 <= TRANSITIONS, words


def test_a_lost_webhook_costs_no_transition_either(warm: Studio) -> None:
    """The sweeper asks the provider in the workflow's place."""
    job = warm.create("[sim delay=1 webhook=lost]", kind="portraits")
    time.sleep(max(0.0, float(_row(warm, job["id"])["sweep_at"]) - time.time()) + 0.2)

    sweep(warm.stack)
    ended = warm.wait(job["id"], timeout=10)

    assert ended["status"] == "succeeded"
    assert _states(history(warm.stack, job["id"])) == ["Next", "Await", "Store", "Next", "Settle"]


def test_a_twenty_minute_video_costs_as_many_transitions_as_a_four_second_image(warm: Studio) -> None:
    """Without a webhook too, where the provider is asked at most once an interval: after a minute at first, then less
    often the longer it takes."""
    warm.grant(300)
    film = {"kind": "videos", "model": "minimax-video"}
    impatient = warm.create(f"[sim delay={VIDEO_S} webhook=lost]", **film)["id"]
    eventually(lambda: "task_token" in _row(warm, impatient), timeout=20, what="token on the job")
    with _patience_of_aws(warm.stack):
        image = warm.create(f"[sim delay={IMAGE_S}]", kind="portraits")["id"]
        video = warm.create(f"[sim delay={VIDEO_S}]", **film)["id"]
        lost = warm.create(f"[sim delay={VIDEO_S} webhook=lost]", **film)["id"]
        jobs = [impatient, image, video, lost]
        while not {warm.job(job_id)["status"] for job_id in jobs} <= TERMINAL:
            sweep(warm.stack)

    assert [warm.job(job_id)["status"] for job_id in jobs] == ["succeeded"] * 4
    assert _states(history(warm.stack, video)) == ["Next", "Await", "Store", "Next", "Settle"]
    assert _states(history(warm.stack, video)) == _states(history(warm.stack, image))
    assert _states(history(warm.stack, video)) == _states(history(warm.stack, lost))
    prediction = only_prediction(warm, lost)
    asked = prediction["asked"]
    assert len(asked) >= 5
    for earlier, later in pairwise(asked):
        interval = max(60 * TIME_SCALE, (earlier - prediction["created"]) / 5)
        assert later - earlier > interval - 0.3, asked
    # Where the workflow's own patience is shorter than the video, it asks once each time that runs out.
    assert 1 <= _states(history(warm.stack, impatient)).count("Poll") <= VIDEO_S // POLL_S


@contextmanager
def _patience_of_aws(stack: Stack) -> Iterator[None]:
    """Executions that begin within the block wait for a webhook as long as the template lets them on AWS, on the local
    TimeScale; the local cloud's own patience is shorter than that."""
    client, arn = stack.client("stepfunctions"), stack.state_machines["generation"]
    deployed = client.describe_state_machine(stateMachineArn=arn)["definition"]
    definition = json.loads(deployed)
    assert definition["States"]["Await"]["TimeoutSeconds"] == POLL_S
    definition["States"]["Await"]["TimeoutSeconds"] = round(3600 * TIME_SCALE)
    client.update_state_machine(stateMachineArn=arn, definition=json.dumps(definition))
    try:
        yield
    finally:
        client.update_state_machine(stateMachineArn=arn, definition=deployed)


def _row(studio: Studio, job_id: str) -> Json:
    """The job as the table has it."""
    return rows(studio.stack, "jobs", id=job_id)[0]


def _states(events: list[Json]) -> list[str]:
    return [event["stateEnteredEventDetails"]["name"] for event in events if event["type"].endswith("StateEntered")]


def test_a_dry_run_and_a_refusal_cost_nothing_at_the_provider(warm: Studio, provider: Provider) -> None:
    before = provider.http.get(f"{warm.stack.simulator_url}/_sim/predictions").json()["create_count"]

    dry = warm.http.post("/portraits", json={"prompt": "x"}, params={"dry_run": "true"})
    refused = warm.http.post("/portraits", json={"prompt": ""})

    assert (dry.status_code, refused.status_code) == (200, 422)
    assert dry.json()["estimate"] == {
        "kind": "portrait",
        "model": "flux-dev-portrait",
        "credits": PORTRAIT,
        "units": 1.0,
        "per": "image",
    }
    assert provider.http.get(f"{warm.stack.simulator_url}/_sim/predictions").json()["create_count"] == before
