"""Publications whose process dies, whose AWS calls fail, or whose Postiz answers badly or never: what is to be posted
is posted once, and every publication ends."""

import hashlib
import random
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, get_args
from uuid import uuid4

import pytest

from local.cloud import Stack
from publishing import follow as follow_step
from publishing import submit as submit_step
from publishing import upload as upload_step
from shared.core import aws, dynamo, ids
from shared.core.clock import iso
from shared.core.settings import settings
from shared.media import assets
from shared.media.assets import Asset
from shared.publishing import accept, publish, sweep, table
from shared.publishing.accept import PublicationRequest
from shared.publishing.table import Publication
from tests.e2e import publishing as outside
from tests.e2e.publishing import change, make_due, posts
from tests.e2e.uploading import web
from tests.inside import Calls, Effect, Fault, How, Killed, aws_calls, forget_answers, forget_everything, inside
from tests.support import Studio

HANDLERS = {"upload": upload_step.handler, "submit": submit_step.handler, "follow": follow_step.handler}
MB = 1024 * 1024
PATIENCE_S = 60
CALLS_OF_ACCEPT = 3
"""Of one without an Idempotency-Key: the secret, the transaction, the start."""


@pytest.fixture(scope="module")
def asset(stack: Stack, _inside: None) -> Iterator[Asset]:
    """A photo that an account has."""
    studio = Studio(stack, f"test-{uuid4().hex[:12]}")
    made = outside.imported(studio)
    found = assets.find(made["id"], account=studio.account)
    assert found is not None
    yield found
    studio.close()


@pytest.fixture(autouse=True, scope="module")
def _inside(stack: Stack, front: "Front") -> Iterator[None]:
    """This process is a function of publishing, with AWS's deadlines, less patience, and something before Postiz."""
    with inside(
        stack,
        "SubmitPostFunction",
        POSTIZ_BASE_URL=f"{front.origin}/postiz/public/v1",
        TIME_SCALE="1",
        LOOKUP_GRACE="0",
        PROVIDER_TIMEOUT="1",
        GENERATE_TIMEOUT="1",
    ):
        yield


@pytest.fixture(autouse=True)
def _calm(front: "Front") -> Iterator[None]:
    forget_answers()
    yield
    front.times = 0


@pytest.fixture
def text() -> str:
    return f"The lighthouse {uuid4().hex[:8]}"


def wanted(text: str, **more: Any) -> PublicationRequest:
    return PublicationRequest.model_validate({"text": text, "channels": [{"id": "int-x"}], **more})


def recorded(asset: Asset, text: str, **more: Any) -> Publication:
    """As it is when the process dies before it could start the workflow: nobody else works on it."""
    forget_answers()
    request = wanted(text, **more)
    with aws_calls(Fault(CALLS_OF_ACCEPT - 1, "before", "death")) as calls, pytest.raises(Killed):
        accept.accept(asset.account, asset, request, idempotency_key=None, now=time.time())
    assert calls.names == ["GetSecretValue", "TransactWriteItems", "StartExecution"]
    page, _ = table.page(asset.account, limit=1, cursor=None, asset_id=None, status=None)
    assert page[0].content == text
    return page[0]


def current(publication_id: str) -> Publication:
    found = table.get(publication_id)
    assert found is not None
    return found


def step(name: str, publication_id: str) -> Any:
    return HANDLERS[name]({"publication_id": publication_id}, None)


def run(
    stack: Stack,
    publication_id: str,
    *,
    until: Callable[[Publication], bool] = lambda one: one.terminal,
    limit: float = PATIENCE_S,
) -> Publication:
    """Go from step to step as the workflow does, from where the sweeper would begin, only faster than they wait."""
    state = publish.first_step(current(publication_id)).state(publication_id)
    give_up = time.monotonic() + limit
    while not until(now := current(publication_id)):
        assert time.monotonic() < give_up, f"still {now.status} after {limit} s: {state}"
        if now.attempt == "open":
            # Nobody can be alive who has made this attempt.
            change(stack, publication_id, attempt_at=time.time() - publish.CREATE_LIMIT_S - 1)
        if state["next"].endswith("_again"):
            time.sleep(0.05)
        state = step(state["next"].removesuffix("_again"), publication_id)
    return now


# Every AWS call of every step fails once, for good, or is the last of its process


@dataclass(frozen=True)
class Scene:
    """A publication, the code that is next, and what is asked again if it fails."""

    publication_id: str
    text: str
    run: Callable[[], object]
    repeat: Callable[[], object] = lambda: None


def accepting(stack: Stack, asset: Asset) -> Scene:
    key, text = uuid4().hex, f"accept {uuid4().hex[:8]} [sim delay=0]"

    def ask() -> object:
        return accept.accept(asset.account, asset, wanted(text), idempotency_key=key, now=time.time())

    return Scene(ids.derived("pub", asset.account, key), text, ask, repeat=ask)


def uploading(stack: Stack, asset: Asset) -> Scene:
    return _step("upload", recorded(asset, f"upload {uuid4().hex[:8]} [sim delay=0]"))


def submitting(stack: Stack, asset: Asset) -> Scene:
    made = recorded(asset, f"submit {uuid4().hex[:8]} [sim delay=0]")
    step("upload", made.id)
    return _step("submit", made)


def looking_up(stack: Stack, asset: Asset) -> Scene:
    made = recorded(asset, f"look up {uuid4().hex[:8]} [sim create=drop-after-accept delay=0]")
    step("upload", made.id)
    assert step("submit", made.id)["next"] == "submit_again"
    return _step("submit", made)


def following(stack: Stack, asset: Asset) -> Scene:
    made = recorded(asset, f"follow {uuid4().hex[:8]} [sim delay=0]")
    step("upload", made.id)
    assert step("submit", made.id)["next"] == "follow"
    return _step("follow", made)


def canceling(stack: Stack, asset: Asset) -> Scene:
    made = recorded(asset, f"cancel {uuid4().hex[:8]}", mode="schedule", publish_at=iso(time.time() + 3600))
    step("upload", made.id)
    assert step("submit", made.id)["next"] == "follow"

    def ask() -> object:
        return publish.cancel(current(made.id))

    seen = current(made.id)
    return Scene(made.id, made.content, lambda: publish.cancel(seen), repeat=ask)


def sweeping(stack: Stack, asset: Asset) -> Scene:
    made = recorded(asset, f"sweep {uuid4().hex[:8]} [sim delay=0]")
    make_due(stack, made.id)
    return Scene(made.id, made.content, lambda: sweep._look_after(made.id))


def _step(name: str, made: Publication) -> Scene:
    return Scene(made.id, made.content, lambda: step(name, made.id))


@dataclass(frozen=True)
class Subject:
    """A piece of code, its AWS calls when all is well, and how its publication ends."""

    name: str
    scene: Callable[[Stack, Asset], Scene]
    calls: tuple[str, ...]
    ends: str = "published"


SUBJECTS = (
    Subject("accept", accepting, ("GetItem", "GetSecretValue", "TransactWriteItems", "StartExecution")),
    Subject("upload", uploading, ("GetItem", "GetItem", "HeadObject", "GetSecretValue", "GetObject", "UpdateItem")),
    Subject("submit", submitting, ("GetItem", "UpdateItem", "GetSecretValue", "TransactWriteItems")),
    Subject("look-up", looking_up, ("GetItem", "GetSecretValue", "BatchGetItem", "TransactWriteItems")),
    Subject("follow", following, ("GetItem", "GetSecretValue", "UpdateItem")),
    Subject("cancel", canceling, ("UpdateItem", "GetSecretValue", "UpdateItem"), "canceled"),
    Subject("sweep", sweeping, ("GetItem", "UpdateItem", "DescribeExecution", "StartExecution")),
)


@dataclass(frozen=True)
class Case:
    subject: Subject
    fault: Fault | None

    def __str__(self) -> str:
        if self.fault is None:
            return f"{self.subject.name}-calm"
        name = self.subject.calls[self.fault.call]
        return f"{self.subject.name}-{self.fault.call}-{name}-{self.fault.effect}-{self.fault.how}"


CASES = [
    Case(subject, fault)
    for subject in SUBJECTS
    for fault in (
        None,
        *(
            Fault(call, effect, how)
            for call in range(len(subject.calls))
            for effect in get_args(Effect)
            for how in get_args(How)
            # What was never sent once is sent again by botocore, and nobody notices.
            if (effect, how) != ("before", "once")
        ),
    )
]


@dataclass
class Outcome:
    calls: Calls
    publication: Publication
    posts: list[Any] = field(default_factory=list)


@pytest.fixture(scope="module")
def outcomes(stack: Stack, asset: Asset) -> dict[Case, Outcome]:
    return {case: _outcome(stack, asset, case) for case in CASES}


def _outcome(stack: Stack, asset: Asset, case: Case) -> Outcome:
    """Let the code meet its fault, its caller ask again, and whoever comes next finish it."""
    scene = case.subject.scene(stack, asset)
    forget_answers()
    with aws_calls(case.fault) as calls:
        try:
            scene.run()
        except (Killed, Exception):  # noqa: BLE001 Whatever it is, the publication has to survive it.
            assert case.fault is not None
    scene.repeat()
    ended = run(stack, scene.publication_id)
    return Outcome(calls, ended, posts(stack, scene.text))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_whatever_call_fails_the_publication_ends_as_it_should_with_one_post(
    case: Case, outcomes: dict[Case, Outcome]
) -> None:
    outcome = outcomes[case]

    if case.fault is None:
        assert tuple(outcome.calls.names) == case.subject.calls
    else:
        assert outcome.calls.names[case.fault.call] == case.subject.calls[case.fault.call]
        assert outcome.calls.tries >= {"once": 2, "death": 1, "for_good": 3}[case.fault.how]
    assert (outcome.publication.status, outcome.publication.error) == (case.subject.ends, None)
    (post,) = outcome.posts
    assert post["publication"] == outcome.publication.id
    assert post["id"] == outcome.publication.channels[0].post_id
    assert post["deleted"] == (case.subject.ends == "canceled")


def test_of_processes_that_submit_at_the_same_time_one_creates_the_post(stack: Stack, asset: Asset, text: str) -> None:
    made = recorded(asset, f"{text} [sim delay=0]")
    step("upload", made.id)

    with ThreadPoolExecutor(6) as pool:
        said = [one.result()["next"] for one in [pool.submit(step, "submit", made.id) for _ in range(6)]]

    assert said.count("submit_again") + said.count("follow") == 6
    assert run(stack, made.id).status == "published"
    assert len(posts(stack, text)) == 1


# Postiz fails


Mishap = Literal["500", "408", "drop", "timeout", "garbage"]


@dataclass
class Front:
    """Something before Postiz that misbehaves: `how` for `times` requests to `path`, before or after Postiz has got
    them."""

    postiz: str
    origin: str = ""
    method: str = ""
    path: str = ""
    how: str = ""
    after: bool = False
    times: int = 0
    struck: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def fail(self, call: str, how: str, *, after: bool = False, times: int = 1) -> None:
        self.method, self.path = call.split()
        self.how, self.after, self.times, self.struck = how, after, times, 0

    def strikes(self, method: str, path: str) -> bool:
        if self.struck >= self.times or method != self.method or not path.startswith(f"/postiz{self.path}"):
            return False
        self.struck += 1
        return True


@pytest.fixture(scope="module")
def front(stack: Stack) -> Iterator[Front]:
    made = Front(stack.simulator_url)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _behind(made))
    server.daemon_threads = True
    made.origin = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield made
    made.over.set()
    server.shutdown()
    server.server_close()


def _behind(front: Front) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            strikes = front.strikes(self.command, self.path)
            if not strikes or front.after:
                headers = {name: self.headers[name] for name in ("authorization", "content-type") if self.headers[name]}
                url = front.postiz + self.path
                answer = web.request(self.command, url, headers=headers, content=body)
                status, content = answer.status_code, answer.content
            if strikes:
                match front.how:
                    case "drop":
                        return
                    case "timeout":
                        front.over.wait(5)
                        return
                    case "garbage":
                        status, content = 201, b"<html>done</html>"
                    case code:
                        status, content = int(code), b'{"message": "Something went wrong"}'
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_DELETE = do_GET

        def log_message(self, *_: object) -> None:
            pass

    return Handler


UPLOAD, CREATE, LIST, DELETE = (
    "POST /public/v1/upload",
    "POST /public/v1/posts",
    "GET /public/v1/posts",
    "DELETE /public/v1/posts",
)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("how", get_args(Mishap))
@pytest.mark.parametrize("call", [UPLOAD, CREATE, LIST])
def test_whatever_postiz_answers_and_whether_or_not_it_has_acted_there_is_one_post(
    stack: Stack, asset: Asset, front: Front, text: str, call: str, how: str, after: bool
) -> None:
    # What is listed is needed most after an answer that was lost.
    lost = " [sim create=drop-after-accept delay=0]" if call == LIST else " [sim delay=0]"
    made = recorded(asset, text + lost)
    front.fail(call, how, after=after, times=2 if not after else 1)

    ended = run(stack, made.id)

    assert front.struck == front.times
    assert (ended.status, ended.error) == ("published", None)
    (post,) = posts(stack, text)
    assert post["id"] == ended.channels[0].post_id


@pytest.mark.parametrize("call", [UPLOAD, CREATE, LIST])
def test_postiz_that_is_busy_is_asked_again_later(
    stack: Stack, asset: Asset, front: Front, text: str, call: str
) -> None:
    made = recorded(asset, f"{text} [sim delay=0]")
    front.fail(call, "429", times=2)

    assert run(stack, made.id).status == "published"
    assert front.struck == 2
    assert len(posts(stack, text)) == 1


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("how", ["500", "drop", "timeout"])
@pytest.mark.parametrize("call", [DELETE, LIST])
def test_what_is_taken_back_is_gone_whatever_postiz_answers(
    stack: Stack, asset: Asset, front: Front, text: str, call: str, how: str, after: bool
) -> None:
    made = recorded(asset, text, mode="schedule", publish_at=iso(time.time() + 3600))
    run(stack, made.id, until=lambda one: one.status == "scheduled")
    front.fail(call, how, after=after)

    publish.cancel(current(made.id))
    ended = run(stack, made.id)

    assert front.struck == 1
    assert ended.status == "canceled"
    assert [post["deleted"] for post in posts(stack, text)] == [True]


@pytest.mark.parametrize("how", ["500", "drop", "timeout", "429"])
def test_an_upload_that_never_arrives_is_given_up(
    stack: Stack, asset: Asset, front: Front, text: str, how: str
) -> None:
    made = recorded(asset, text)
    front.fail(UPLOAD, how, times=1000)
    assert step("upload", made.id)["next"] == "upload_again"
    change(stack, made.id, give_up_at=time.time())

    ended = run(stack, made.id)

    assert ended.status == "failed"
    assert ended.error is not None
    assert ended.error.code == "provider_unavailable"
    assert posts(stack, text) == []


@pytest.mark.parametrize("created", [False, True])
def test_a_post_of_which_nobody_can_say_whether_it_was_made_is_not_repeated_and_ends_as_unknown(
    stack: Stack, asset: Asset, front: Front, text: str, created: bool
) -> None:
    made = recorded(asset, f"{text} [sim delay=0]")
    step("upload", made.id)
    front.fail(CREATE, "drop", after=created)
    assert step("submit", made.id)["next"] == "submit_again"
    front.fail(LIST, "timeout", times=1000)
    assert step("submit", made.id)["next"] == "submit_again"
    change(stack, made.id, give_up_at=time.time())

    ended = run(stack, made.id)

    assert ended.status == "failed"
    assert ended.error is not None
    assert ended.error.code == "outcome_unknown"
    assert len(posts(stack, text)) == created


def test_a_post_that_cannot_be_followed_any_more_ends_as_unknown(
    stack: Stack, asset: Asset, front: Front, text: str
) -> None:
    made = recorded(asset, text)
    run(stack, made.id, until=lambda one: one.status == "publishing")
    front.fail(LIST, "drop", times=1000)
    assert step("follow", made.id)["next"] == "follow_again"
    change(stack, made.id, publish_at=time.time() - publish.PATIENCE_S - 1)

    ended = run(stack, made.id)

    assert ended.status == "failed"
    assert ended.error is not None
    assert ended.error.code == "outcome_unknown"


@pytest.mark.parametrize("status", ["401", "402", "403"])
def test_a_key_that_is_refused_fails_the_publication_and_tells_the_operator_not_the_caller(
    stack: Stack, asset: Asset, front: Front, text: str, status: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = recorded(asset, text)
    front.fail(CREATE, status)

    ended = run(stack, made.id)

    assert ended.status == "failed"
    assert ended.error is not None
    assert "key" not in ended.error.detail
    assert '"OperatorNeeded"' in capsys.readouterr().out


# What is sent


@pytest.fixture
def direct(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing between us and Postiz: what stands there would hold the file in this very process."""
    with monkeypatch.context() as patch:
        patch.setenv("POSTIZ_BASE_URL", f"{stack.simulator_url}/postiz/public/v1")
        patch.setenv("GENERATE_TIMEOUT", "60")
        forget_everything()
        yield
    forget_everything()


@pytest.mark.usefixtures("direct")
def test_a_file_of_48_megabytes_is_streamed(stack: Stack, asset: Asset, text: str) -> None:
    content = random.Random(1).randbytes(48 * MB)
    large = replace(asset, id=ids.new("as"), key=f"assets/{uuid4().hex}.mp4", content_type="video/mp4")
    large = replace(large, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    aws.s3().put_object(Bucket=settings().media_bucket, Key=large.key, Body=content)
    dynamo.save(settings().assets_table, large.item())
    made = recorded(large, text)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]

    assert step("upload", made.id)["next"] == "submit"

    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    media = current(made.id).media
    assert media is not None
    publish.cancel(current(made.id))
    (arrived,) = [one for one in outside.at_postiz(stack, text)["uploads"] if one["id"] == media.id]
    assert (arrived["bytes"], arrived["sha256"]) == (large.bytes, large.sha256)
    assert peak < 8 * MB, f"{peak / MB:.1f} MB"


def test_an_asset_that_is_deleted_before_it_is_sent_is_not_published(stack: Stack, text: str) -> None:
    studio = Studio(stack, f"test-{uuid4().hex[:12]}")
    made = outside.imported(studio)
    found = assets.find(made["id"], account=studio.account)
    assert found is not None
    waiting = recorded(found, text)
    assert studio.http.delete(f"/assets/{found.id}").status_code == 204

    ended = run(stack, waiting.id)

    assert (ended.status, ended.error and ended.error.code) == ("failed", "asset_gone")
    assert posts(stack, text) == []
    studio.close()
