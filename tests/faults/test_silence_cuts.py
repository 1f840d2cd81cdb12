"""Silence cuts whose worker dies at any of its writes, or is never begun: cut once, told as it was, paid for once."""

import json
from collections.abc import Iterator
from itertools import product
from uuid import uuid4

import pytest

from generation import fail, listen, settle
from local.cloud import Stack
from shared.jobs import accept as jobs
from shared.jobs.requests import SilenceCuts
from shared.jobs.table import Job
from shared.silence import accept
from tests.e2e.uploading import uploaded
from tests.faults.scenes import make_due
from tests.inside import Fault, Killed, aws_calls, inside
from tests.sounds import nothing, tone, wav
from tests.support import Json, Studio, sweep

WRITES = ("UpdateItem", "TransactWriteItems", "PutObject")


@pytest.fixture(autouse=True)
def _inside(stack: Stack) -> Iterator[None]:
    with inside(stack, "ListenFunction", TIME_SCALE="1"):
        yield


@pytest.fixture(scope="module")
def sound(stack: Stack) -> Iterator[tuple[Studio, str]]:
    """An account, and three seconds of it that are quiet in the middle."""
    studio = Studio(stack, f"cuts-{uuid4().hex[:12]}")
    studio.grant(1000)
    outcome = uploaded(studio, wav(tone(1) + nothing(1) + tone(1)).getvalue(), "audio/wav")
    yield studio, str(outcome["asset"]["id"])
    studio.check_invariants()
    studio.close()


def accepted(studio: Studio, asset: str) -> Job:
    """A job as it is when nobody has begun to work on it yet."""
    clip = {"id": "c1", "asset": asset, "start": 0, "out": 3}
    document = {"title": "x", "timeline": {"tracks": [{"type": "audio", "role": "voice", "clips": [clip]}]}}
    project = studio.http.post("/projects", json=document).json()
    request = SilenceCuts(project=project["id"], clip="c1", apply=True)
    made = accept.offer(studio.account, request)
    return jobs.accept(studio.account, request, made, idempotency_key=None, request_id=uuid4().hex).job


def worked_on(job: Job) -> Json:
    return listen.handler({"job_id": job.id}, None)


def check_cut_once(studio: Studio, job: Job) -> None:
    ended = studio.wait(job.id)
    assert ended["status"] == "succeeded", ended
    assert ended["credits"] == {"held": 1, "charged": 1}
    (asset,) = ended["assets"]
    told = json.loads(studio.http.get(f"/assets/{asset['id']}/content", follow_redirects=True).content)
    assert told["cuts"] == [{"start": pytest.approx(1.15, abs=0.01), "end": pytest.approx(1.85, abs=0.01)}]
    assert (told["etag"], told["applied"]) == ('"1"', {"etag": '"2"'})
    project = studio.http.get(f"/projects/{job.request['project']}").json()
    assert (project["version"], len(project["timeline"]["tracks"][0]["clips"])) == (2, 2)


def writes_of_a_run(studio: Studio, asset: str) -> list[int]:
    """Which of the AWS calls of the step write."""
    job = accepted(studio, asset)
    with aws_calls() as calls:
        assert worked_on(job)["next"] == "settle"
    settle.handler({"job_id": job.id}, None)
    check_cut_once(studio, job)
    return [number for number, name in enumerate(calls.names) if name in WRITES]


def test_whenever_the_step_dies_its_repeat_cuts_once_and_tells_the_same(sound: tuple[Studio, str]) -> None:
    writes = writes_of_a_run(*sound)
    assert len(writes) >= 6

    for call, effect in product(writes, ("before", "after")):
        job = accepted(*sound)
        with aws_calls(Fault(call, effect, "death")), pytest.raises(Killed):  # type: ignore[arg-type]
            worked_on(job)

        assert worked_on(job)["next"] == "settle", (call, effect)
        assert worked_on(job)["next"] == "settle"
        settle.handler({"job_id": job.id}, None)
        check_cut_once(sound[0], job)


def test_once_the_cuts_are_saved_it_is_too_late_to_call_the_job_off(sound: tuple[Studio, str]) -> None:
    other, job = accepted(*sound), accepted(*sound)
    with aws_calls() as calls:
        worked_on(other)
    settle.handler({"job_id": other.id}, None)
    saved = calls.names.index("TransactWriteItems")
    with aws_calls(Fault(saved, "after", "death")), pytest.raises(Killed):
        worked_on(job)

    sound[0].http.post(f"/jobs/{job.id}/cancel")

    assert worked_on(job)["next"] == "settle"
    settle.handler({"job_id": job.id}, None)
    check_cut_once(sound[0], job)


def test_a_job_that_was_called_off_is_not_worked_on(sound: tuple[Studio, str]) -> None:
    job = accepted(*sound)
    with aws_calls(Fault(3, "after", "death")), pytest.raises(Killed):
        worked_on(job)

    canceled = sound[0].http.post(f"/jobs/{job.id}/cancel").json()
    following = worked_on(job)

    assert canceled["status"] == "processing"
    assert (following["next"], following["ending"]) == ("fail", "canceled")
    fail.handler(following, None)
    assert sound[0].http.get(f"/projects/{job.request['project']}").json()["version"] == 1


def test_the_sweeper_begins_what_nobody_has_begun(sound: tuple[Studio, str], stack: Stack) -> None:
    job = accepted(*sound)

    make_due(stack, job.id)
    sweep(stack)

    check_cut_once(sound[0], job)


def test_a_project_that_is_gone_meanwhile_ends_the_job_with_its_reason_and_its_hold_goes_back(
    sound: tuple[Studio, str], stack: Stack
) -> None:
    studio, asset = sound
    job = accepted(studio, asset)
    gone = studio.http.delete(f"/projects/{job.request['project']}", headers={"if-match": "*"})
    assert gone.status_code == 204
    before = studio.credits()

    make_due(stack, job.id)
    sweep(stack)

    ended = studio.wait(job.id)
    assert (ended["status"], ended["error"]["code"]) == ("failed", "project_gone")
    assert ended["credits"]["charged"] == 0
    assert studio.credits() == {**before, "held": before["held"] - 1, "available": before["available"] + 1}


@pytest.mark.parametrize(
    ("change", "code"),
    [({"type": "ripple-delete", "clip": "c1"}, "clip_gone"), ({"type": "move", "clip": "c1", "start": 5}, None)],
)
def test_a_clip_that_is_gone_ends_the_job_and_one_that_was_moved_is_cut_where_it_is(
    sound: tuple[Studio, str], stack: Stack, change: Json, code: str | None
) -> None:
    studio, asset = sound
    job = accepted(studio, asset)
    path = f"/projects/{job.request['project']}"
    assert studio.http.post(f"{path}/operations", json={"operations": [change]}).status_code == 200

    make_due(stack, job.id)
    sweep(stack)

    ended = studio.wait(job.id)
    assert (ended["error"] or {}).get("code") == code
    if code is None:
        clips = studio.http.get(path).json()["timeline"]["tracks"][0]["clips"]
        assert [clip["start"] for clip in clips] == [5, pytest.approx(6.15, abs=0.01)]
