"""The circuit breaker before each provider: one that is down is left alone, its jobs wait, and a probe finds it back.

Most of it runs in this process as a deployed function, with AWS's times; a minute is let pass in the circuits' table.
The last test has the deployed functions call a provider whose address nobody listens at for a while.
"""

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import uuid4

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local.cloud import Stack
from local.simulator.server import serving
from shared.jobs import generate, settle, submit, table, workflow
from shared.jobs.requests import ImageRequest, PortraitRequest, SpeechRequest
from shared.jobs.steps import Step
from shared.jobs.table import Job
from shared.providers import keys
from shared.providers.breaker import FAILURES, RECOVERY_S
from shared.providers.outcomes import Failure, Permanent
from tests.e2e.helpers import IMAGE, check_refunded, eventually, only_prediction
from tests.faults.scenes import recorded
from tests.inside import close_circuits, forget_answers, inside
from tests.support import Json, Studio, plain, rows

PROVIDER = "replicate"
LEFT_ALONE = Step("backoff", wait_seconds=RECOVERY_S)
SILENCE = ["create=500", "create=502html", "create=refuse", "create=hang"]
REFUSALS = ["colour=blue", "create=429", "create=402"]


@pytest.fixture
def studio(stack: Stack, new_studio: Callable[..., Studio]) -> Iterator[Studio]:
    """An account of a deployment where nobody has called a provider yet; its jobs are over when the test is."""
    with inside(stack, TIME_SCALE="1", PROVIDER_TIMEOUT="1"):
        made = new_studio()
        yield made
        for item in rows(stack, "ledger", account=made.account):
            if item["sort"].startswith("hold#") and item["state"] == "open":
                settle.fail(now(item["sort"].removeprefix("hold#")), "failed", Failure("a_test", "A test."))
        close_circuits(stack)


def now(job_id: str) -> Job:
    found = table.get(job_id)
    assert found is not None
    return found


def ask(studio: Studio, directives: str = "") -> tuple[Job, Step]:
    """A job after its first attempt."""
    return submit.attempt(recorded(studio, ImageRequest(prompt=f"a lighthouse [sim {directives}]")))


def be_silent(studio: Studio, times: int, directive: str = "create=500") -> None:
    for _ in range(times):
        job, _ = ask(studio, directive)
        assert (job.status, job.attempt) == ("submitting", "unknown")


def be_refused(studio: Studio, directive: str) -> None:
    try:
        job, _ = ask(studio, directive)
    except Permanent:
        return
    assert job.status == "queued"
    keys._resting.clear()


def created(studio: Studio, *jobs: Job) -> list[int]:
    """How many create calls of each job have reached the provider."""
    return [studio.simulated(job.id)["create_count"] for job in jobs]


def circuit(stack: Stack, provider: str = PROVIDER) -> Json:
    """The circuit as all functions see it."""
    item = stack.client("dynamodb").get_item(
        TableName=stack.tables["circuits"], Key={"id": {"S": provider}}, ConsistentRead=True
    )
    return plain(item.get("Item", {"id": {"S": provider}, "state": {"S": "CLOSED"}}))


def write_circuit(stack: Stack, state: str, opened_at: float) -> None:
    """As another process would."""
    item = {"id": {"S": PROVIDER}, "state": {"S": state}, "opened_at": {"N": str(int(opened_at))}}
    stack.client("dynamodb").put_item(TableName=stack.tables["circuits"], Item=item)


def recover(stack: Stack) -> None:
    """Let the time pass until the provider may be probed."""
    assert circuit(stack)["state"] == "OPEN"
    write_circuit(stack, "OPEN", time.time() - RECOVERY_S)


def finish(studio: Studio, job: Job, step: Step) -> None:
    workflow.start(job, step)
    assert studio.wait(job.id)["status"] == "succeeded"
    only_prediction(studio, job.id)


# Open


@pytest.mark.parametrize("silence", SILENCE)
def test_a_silent_provider_is_left_alone_and_its_jobs_wait(studio: Studio, silence: str) -> None:
    be_silent(studio, FAILURES - 1, silence)
    assert circuit(studio.stack)["state"] == "CLOSED"
    be_silent(studio, 1, silence)
    assert circuit(studio.stack)["state"] == "OPEN"

    waiting = [ask(studio) for _ in range(3)]
    again = [submit.resume(job) for job, _ in waiting]

    assert [job.status for job, _ in waiting] == ["queued"] * 3
    assert [step for _, step in waiting] == again == [LEFT_ALONE] * 3
    assert created(studio, *[job for job, _ in waiting]) == [0, 0, 0]
    assert {studio.job(job.id)["status"] for job, _ in waiting} == {"queued"}


def test_an_open_circuit_is_that_of_one_provider(studio: Studio) -> None:
    be_silent(studio, FAILURES)

    other = recorded(studio, ImageRequest(prompt="elsewhere", model="fal-flux-dev"))
    job, step = submit.attempt(other)

    assert (job.status, step) == ("processing", Step("await"))
    finish(studio, job, step)


def test_a_provider_that_answers_at_once_is_left_alone_too(studio: Studio) -> None:
    for _ in range(FAILURES):
        lost = recorded(studio, SpeechRequest(text=f"A speech {uuid4().hex} [sim create=500]"))
        step = generate.generate(lost)
        assert step.failure is not None
        assert step.failure.code == "outcome_unknown"
    assert circuit(studio.stack, lost.provider)["state"] == "OPEN"

    waiting = recorded(studio, SpeechRequest(text=f"A speech {uuid4().hex}"))
    step = generate.generate(waiting)

    assert (step.next, step.wait_seconds) == ("generate_again", RECOVERY_S)
    assert now(waiting.id).status == "queued"
    assert studio.called(waiting.request["text"])["call_count"] == 0


# Refusals


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_never_opens_the_circuit(studio: Studio, refusal: str) -> None:
    for _ in range(2 * FAILURES):
        be_refused(studio, refusal)

    assert circuit(studio.stack)["state"] == "CLOSED"
    assert ask(studio)[0].status == "processing"


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_ends_a_row_of_failures(studio: Studio, refusal: str) -> None:
    be_silent(studio, FAILURES - 1)
    be_refused(studio, refusal)
    be_silent(studio, FAILURES - 1)

    assert circuit(studio.stack)["state"] == "CLOSED"
    assert ask(studio)[0].status == "processing"


# Closed again


def test_after_the_recovery_time_one_probe_closes_it_and_the_waiting_jobs_succeed(studio: Studio) -> None:
    be_silent(studio, FAILURES)
    waiting = [ask(studio)[0] for _ in range(3)]
    assert circuit(studio.stack)["state"] == "OPEN"

    recover(studio.stack)
    first = submit.resume(waiting[0])
    assert circuit(studio.stack)["state"] == "CLOSED"
    steps = [first, *(submit.resume(job) for job in waiting[1:])]

    assert steps == [Step("await")] * 3
    assert created(studio, *waiting) == [1, 1, 1]
    for job in waiting:
        finish(studio, now(job.id), Step("poll"))
        assert studio.job(job.id)["credits"]["charged"] == IMAGE


def test_while_it_is_probed_nobody_else_calls(studio: Studio) -> None:
    be_silent(studio, FAILURES)
    waiting = ask(studio)[0]
    recover(studio.stack)

    with ThreadPoolExecutor(1) as other:
        probe = other.submit(ask, studio, "create=hang")
        eventually(lambda: circuit(studio.stack)["state"] == "HALF_OPEN", timeout=5, what="probe")
        assert submit.resume(waiting) == LEFT_ALONE
        assert circuit(studio.stack)["state"] == "HALF_OPEN"
        hung, _ = probe.result(timeout=10)

    assert created(studio, hung, waiting) == [1, 0]
    reopened = circuit(studio.stack)
    assert (reopened["state"], time.time() - float(reopened["opened_at"]) < RECOVERY_S) == ("OPEN", True)
    assert submit.resume(now(waiting.id)) == LEFT_ALONE

    recover(studio.stack)
    assert submit.resume(now(waiting.id)) == Step("await")
    finish(studio, now(waiting.id), Step("poll"))


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_probe_that_is_refused_was_answered(studio: Studio, refusal: str) -> None:
    be_silent(studio, FAILURES)
    recover(studio.stack)

    be_refused(studio, refusal)

    assert circuit(studio.stack)["state"] == "CLOSED"
    assert ask(studio)[0].status == "processing"


def test_an_open_circuit_that_another_process_has_closed_is_closed_here(studio: Studio) -> None:
    be_silent(studio, FAILURES)
    waiting, step = ask(studio)
    assert step == LEFT_ALONE

    write_circuit(studio.stack, "CLOSED", time.time())

    assert submit.resume(waiting) == Step("await")
    # The failures of before are forgotten with it.
    be_silent(studio, FAILURES - 1)
    assert circuit(studio.stack)["state"] == "CLOSED"
    finish(studio, now(waiting.id), Step("poll"))


def test_a_circuit_that_another_process_has_opened_is_open_here_once_the_memory_of_it_fades(studio: Studio) -> None:
    assert ask(studio)[0].status == "processing"
    write_circuit(studio.stack, "OPEN", time.time())

    remembered, _ = ask(studio)
    forget_answers()
    waiting, step = ask(studio)

    assert remembered.status == "processing"
    assert (waiting.status, step) == ("queued", LEFT_ALONE)
    assert created(studio, remembered, waiting) == [1, 0]


# Deployed


class Line:
    """The way to the provider. Nobody listens at its end until it is up."""

    def __init__(self, target: str) -> None:
        self._target = httpx.URL(target)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}{self._target.path}"

    @contextmanager
    def up(self) -> Iterator[None]:
        app = Starlette(routes=[Route("/{path:path}", self._pass_on, methods=["GET", "POST"])])
        with serving(app, port=self._port):
            yield

    async def _pass_on(self, request: Request) -> Response:
        url = self._target.copy_with(path=request.url.path, query=request.url.query.encode())
        headers = {name: request.headers[name] for name in ("authorization", "content-type") if name in request.headers}
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            answer = await client.request(request.method, url, headers=headers, content=await request.body())
        return Response(answer.content, answer.status_code, media_type=answer.headers["content-type"])


@contextmanager
def deployed_with(stack: Stack, functions: list[str], **variables: str) -> Iterator[None]:
    """The deployed functions in new processes, with these variables of their environment."""
    client = stack.client("lambda")
    before = {}
    for name in functions:
        configuration = client.get_function_configuration(FunctionName=stack.functions[name])
        before[name] = configuration["Environment"]["Variables"]
        client.update_function_configuration(
            FunctionName=stack.functions[name], Environment={"Variables": {**before[name], **variables}}
        )
    try:
        yield
    finally:
        for name, environment in before.items():
            client.update_function_configuration(
                FunctionName=stack.functions[name], Environment={"Variables": environment}
            )


def test_jobs_outlive_an_outage_unless_their_deadline_comes_first(
    stack: Stack, new_studio: Callable[..., Studio]
) -> None:
    line = Line(stack.parameters["ReplicateBaseUrl"])
    many, one = new_studio(), new_studio()
    with deployed_with(stack, ["CreatePortraitFunction", "SubmitFunction"], REPLICATE_BASE_URL=line.url):
        with inside(stack, REPLICATE_BASE_URL=line.url, TIME_SCALE="0.005"):
            impatient = submit.begin(recorded(one, PortraitRequest(prompt="in three seconds or not at all")))
        refused = many.create("asked for through the door", kind="portraits")
        assert refused["status"] == "queued"
        with inside(stack, REPLICATE_BASE_URL=line.url, TIME_SCALE="1"):
            requests = [PortraitRequest(prompt=f"patient {number}") for number in range(FAILURES + 2)]
            waiting = [submit.begin(recorded(many, request)) for request in requests]
        assert {job.status for job in waiting} == {"queued"}
        eventually(lambda: circuit(stack)["state"] != "CLOSED", timeout=10, what="open circuit")

        ended = one.wait(impatient.id)
        assert (ended["status"], ended["error"]["code"]) == ("timed_out", "provider_unavailable")
        check_refunded(one, ended)
        assert {many.job(job.id)["status"] for job in waiting} <= {"queued", "submitting"}

        with line.up():
            assert {many.wait(job.id)["status"] for job in waiting} == {"succeeded"}
            assert circuit(stack)["state"] == "CLOSED"
            # Its deadline is the local one: on a slow machine it may have come.
            assert many.wait(refused["id"])["status"] in ("succeeded", "timed_out")
    for job in waiting:
        only_prediction(many, job.id)
        assert many.simulated(job.id)["create_count"] == 1
    assert one.simulated(impatient.id)["create_count"] == 0
