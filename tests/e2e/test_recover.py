"""`make recover`: what a provider has made and no job has settled becomes its job's after all, or is nobody's."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from local import recover, scheduled
from local.cloud import Stack
from tests.e2e.helpers import IMAGE, Provider, check_paid, check_refunded, eventually, only_prediction
from tests.support import Json, Studio, rows, sweep

LATE = {
    "replicate": ("flux-schnell", "cancel=ignored"),
    "fal": ("fal-flux-dev", "cancel=ignored"),
    "kie": ("nano-banana-2", ""),  # Cannot cancel.
}
"""A model of each provider whose job times out, and succeeds afterwards."""
RECOVERED = 3 + len(LATE)


@dataclass
class Lost:
    """A job of an account of its own."""

    studio: Studio
    id: str

    @property
    def row(self) -> Json:
        """The job as the table has it."""
        return rows(self.studio.stack, "jobs", id=self.id)[0]

    def change(self, **times: float) -> None:
        """Set times of the job (epoch seconds)."""
        self.studio.stack.client("dynamodb").update_item(
            TableName=self.studio.stack.tables["jobs"],
            Key={"id": {"S": self.id}},
            UpdateExpression="SET " + ", ".join(f"{name} = :{name}" for name in times),
            ExpressionAttributeValues={f":{name}": {"N": str(at)} for name, at in times.items()},
        )

    def hide(self) -> None:
        """Keep the sweeper away from the job."""
        self.change(sweep_at=time.time() + 3600)

    def stop(self) -> None:
        """End the execution that works on the job."""
        arn = self.studio.stack.state_machines["generation"].replace(":stateMachine:", ":execution:")
        self.studio.stack.client("stepfunctions").stop_execution(executionArn=f"{arn}:{self.id}")

    def time_out(self) -> None:
        """Let the time pass until the job is given up."""
        eventually(lambda: "task_token" in self.row, timeout=20, what="token on the job")
        self.change(deadline_at=time.time() - 1, abandon_at=time.time() - 1, sweep_at=time.time())
        sweep(self.studio.stack)
        assert self.studio.wait(self.id)["status"] == "timed_out"

    def until_made(self) -> None:
        """Wait until the provider has made what nobody asks for any more."""
        eventually(lambda: only_prediction(self.studio, self.id)["status"] == "succeeded", timeout=60, what="success")


@dataclass
class Scene:
    """What was lost, and the reports of three recoveries: before that, after it, and once more."""

    unknown: Lost
    unheard: Lost
    canceled: Lost
    endless: Lost
    late: dict[str, Lost]
    strangers: list[str]
    reports: list[dict[str, int]]
    after_first: dict[str, Json]

    @property
    def jobs(self) -> list[Lost]:
        return [self.unknown, self.unheard, self.canceled, self.endless, *self.late.values()]


@pytest.fixture(scope="module")
def scene(stack: Stack, provider: Provider) -> Iterator[Scene]:
    def lose(prompt: str, **fields: str) -> Lost:
        studio = Studio(stack, f"recover-{uuid4().hex[:12]}")
        studio.grant(100)
        return Lost(studio, studio.create(prompt, **fields)["id"])

    reports = [scheduled.locally("RecoverJobsFunction", stack)]

    # This one first: the functions that time the others out have then begun, and do it before those succeed.
    endless = lose("endless [sim outcome=never cancel=ignored]")
    endless.time_out()
    late = {}
    for name, (model, cancel) in LATE.items():
        late[name] = lose(f"late [sim delay=10 webhook=lost {cancel}]", model=model)
        late[name].time_out()

    canceled = lose("canceled [sim create=429]")
    canceled.studio.http.post(f"/jobs/{canceled.id}/cancel")
    canceled.studio.wait(canceled.id, until={"canceled"})
    webhook = f"https://hooks.example/replicate?job={canceled.id}"
    made_anyway = predict(provider, "made all the same [sim delay=0 webhook=lost]", webhook)

    for job in late.values():
        job.until_made()
    unknown = lose("unknown [sim create=drop-after-accept webhook=lost delay=0]")
    unknown.stop()
    unknown.hide()
    assert "prediction" not in unknown.row

    strangers = [
        predict(provider, "a stranger's [sim delay=0]"),
        predict(
            provider, "a stranger's [sim outcome=never webhook=lost]", "https://hooks.example/replicate?job=job_other"
        ),
    ]
    unheard = lose("unheard [sim delay=0 webhook=lost]")
    unheard.hide()
    for job in (unknown, unheard):
        job.until_made()
    eventually(lambda: provider.prediction(made_anyway)["status"] == "succeeded", timeout=60, what="success")

    reports.append(scheduled.locally("RecoverJobsFunction", stack))
    unknown.change(sweep_at=time.time())
    sweep(stack)
    for job in (unknown, unheard):
        job.studio.wait(job.id)
    for job in (*late.values(), canceled):
        eventually(lambda job=job: "assets" in job.row, timeout=60, what="late assets")
    found = Scene(unknown, unheard, canceled, endless, late, strangers, reports, {})
    found.after_first = {job.id: job.row for job in found.jobs}
    reports.append(scheduled.locally("RecoverJobsFunction", stack))
    yield found
    for job in found.jobs:
        job.studio.check_invariants()
        job.studio.close()


def predict(provider: Provider, prompt: str, webhook: str | None = None) -> str:
    """A prediction that none of our functions has created; its id."""
    body = {"input": {"prompt": prompt}, **({"webhook": webhook} if webhook else {})}
    answer = provider.api.post("/models/black-forest-labs/flux-schnell/predictions", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def test_a_prediction_whose_create_answer_was_lost_is_adopted(scene: Scene) -> None:
    job = scene.unknown.studio.job(scene.unknown.id)

    assert job["status"] == "succeeded"
    assert scene.unknown.row["prediction"] == only_prediction(scene.unknown.studio, job["id"])["id"]
    check_paid(scene.unknown.studio, job, IMAGE)


def test_a_result_that_no_webhook_has_told_of_is_recorded(scene: Scene) -> None:
    job = scene.unheard.studio.job(scene.unheard.id)

    assert job["status"] == "succeeded"
    check_paid(scene.unheard.studio, job, IMAGE)


@pytest.mark.parametrize("provider_name", LATE)
def test_a_success_after_the_end_is_kept_and_not_charged(scene: Scene, provider_name: str) -> None:
    lost = scene.late[provider_name]
    job = lost.studio.job(lost.id)

    assert (job["status"], len(job["assets"])) == ("timed_out", 1)
    content = lost.studio.http.get(f"/assets/{job['assets'][0]['id']}/content", follow_redirects=True)
    assert len(content.content) == job["assets"][0]["bytes"] > 0
    check_refunded(lost.studio, job)
    assert "open_shard" not in lost.row


def test_a_success_that_its_job_never_learned_of_is_kept_and_not_charged(scene: Scene) -> None:
    job = scene.canceled.studio.job(scene.canceled.id)

    assert (job["status"], len(job["assets"])) == ("canceled", 1)
    check_refunded(scene.canceled.studio, job)


def test_what_still_runs_after_the_end_is_asked_about_again(scene: Scene) -> None:
    before, first, second = scene.reports
    job = scene.endless.studio.job(scene.endless.id)

    assert first["asked"] == before["asked"] - before["forgotten"] + 1 + len(LATE)
    assert second["asked"] == first["asked"] - first["forgotten"]
    assert scene.endless.row["open_shard"].startswith("lost#")
    assert only_prediction(scene.endless.studio, job["id"])["asked"]
    check_refunded(scene.endless.studio, job)


def test_what_is_nobodys_is_counted_and_left_alone(scene: Scene, provider: Provider) -> None:
    before, first, second = scene.reports

    assert first["nobodys"] - before["nobodys"] == len(scene.strangers)
    assert second["nobodys"] == first["nobodys"]
    assert [provider.prediction(stranger)["status"] for stranger in scene.strangers] == ["succeeded", "processing"]
    seen = provider.http.get(f"{provider.stack.simulator_url}/_sim/predictions").json()["predictions"]
    left = [prediction for prediction in seen if prediction["id"] in scene.strangers]
    assert [(one["cancel_requests"], one["downloads"]) for one in left] == [(0, [0])] * 2


def test_what_was_lost_is_recovered_once(scene: Scene) -> None:
    _, first, second = scene.reports

    assert (first["recovered"], first["silent"], first["failed"]) == (RECOVERED, 0, 0)
    assert (second["recovered"], second["silent"], second["failed"]) == (0, 0, 0)
    assert second["listed"] == first["listed"]
    assert {job.id: job.row for job in scene.jobs} == scene.after_first


def test_make_recover_tells_what_it_found(
    scene: Scene, stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stack.save(tmp_path)
    monkeypatch.setenv("ATELIER_STATE_DIR", str(tmp_path))

    assert recover.main(None) == 0

    told = dict(line.split(maxsplit=1)[::-1] for line in capsys.readouterr().out.splitlines())
    assert told == {words: str(scene.reports[-1][name]) for name, words in recover.WORDS.items()}


def test_make_recover_says_when_there_is_no_cloud(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ATELIER_STATE_DIR", str(tmp_path))

    assert recover.main(None) == 1

    assert "make up" in capsys.readouterr().err
