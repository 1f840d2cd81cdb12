"""Outgoing callbacks: what they say, how they are signed, where they go, and when they are tried again."""

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from events import announce, deliver_callback
from shared.core import callback_secrets, dynamo
from shared.core.addresses import Resolve
from shared.core.callback_secrets import MOST, Secret
from shared.core.deadline import within
from shared.delivery import message, queue, schedule, send
from shared.delivery.message import LARGEST_BODY
from shared.delivery.schedule import DELAYS_S, LONGEST_RETRY_AFTER_S
from shared.jobs.requests import MOST_METADATA
from shared.providers.outcomes import Failure
from tests.unit.helpers import ENVIRONMENT, WEBHOOK_SECRET, Context, Loopback, job, load

JOB = "job_01k6fe8z40h2v9m7q3x5c8b1d4"
PUBLIC = "93.184.215.14"
URL = "https://studio.example.com/callbacks?tenant=1"
OTHER_SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
ASSET = {
    "id": "as_" + "0" * 26,
    "key": "assets/as_00000000000000000000000000.png",
    "role": "",
    "content_type": "image/png",
    "bytes": 2**40,
    "sha256": "0" * 64,
    "width": 16384,
    "height": 16384,
    "duration_s": 14400.123,
}

# The schedule


def test_the_schedule_is_the_documented_one() -> None:
    assert DELAYS_S == (0, 5, 300, 1800, 7200, 18000, 36000)


@pytest.mark.parametrize("tries", range(1, len(DELAYS_S)))
@given(chance=st.floats(0, 1))
def test_a_pause_is_the_planned_one_and_up_to_a_tenth_more(tries: int, chance: float) -> None:
    pause = schedule.pause(tries, retry_after=None, chance=chance, scale=1)

    assert pause is not None
    assert DELAYS_S[tries] <= pause <= DELAYS_S[tries] * 1.1


@pytest.mark.parametrize("asked", [None, 0, 1e9])
def test_the_seventh_failure_is_the_last(asked: float | None) -> None:
    assert schedule.pause(len(DELAYS_S), retry_after=asked, chance=0, scale=1) is None


@pytest.mark.parametrize(
    ("asked", "expected"), [(None, 300), (10.0, 300), (301.0, 301), (10.0**9, LONGEST_RETRY_AFTER_S)]
)
def test_a_receiver_that_asks_for_more_time_gets_it_up_to_a_day(asked: float | None, expected: float) -> None:
    assert schedule.pause(2, retry_after=asked, chance=0, scale=1) == expected


def test_the_local_cloud_waits_seconds_where_aws_waits_minutes() -> None:
    assert schedule.pause(2, retry_after=None, chance=0, scale=0.03) == pytest.approx(9)


NOW = datetime(2026, 10, 1, 10, 0, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("120", 120),
        (" 7 ", 7),
        ("0", 0),
        (format_datetime(datetime.fromtimestamp(NOW + 90, UTC), usegmt=True), 90),
        (format_datetime(datetime.fromtimestamp(NOW - 90, UTC), usegmt=True), 0),
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("9" * 400, None),
        ("Mon, 99 Jan 2026 10:00:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, expected: float | None) -> None:
    assert schedule.retry_after(value, NOW) == expected


@given(st.text(max_size=40))
def test_no_text_in_retry_after_is_a_surprise(text: str) -> None:
    asked = schedule.retry_after(text, NOW)

    assert asked is None or asked >= 0


@pytest.mark.parametrize(
    ("status", "expected"),
    [(200, "delivered"), (204, "delivered"), (299, "delivered"), (410, "disabled"), (None, "failed")]
    + [(status, "failed") for status in (199, 300, 301, 302, 303, 304, 307, 308, 400, 401, 404, 409, 429, 500, 503)],
)
def test_what_an_answer_means(status: int | None, expected: str) -> None:
    assert schedule.verdict(status) == expected


# What it says


def test_a_callback_names_the_files_and_presigns_nothing() -> None:
    ended = job(status="succeeded", charged=3, assets=(ASSET,), metadata={"order": "4711"}, callback_url=URL)

    told = json.loads(message.body(ended))

    assert told["type"] == "job.succeeded"
    assert told["timestamp"] == ended.updated_at
    assert told["data"]["id"] == ended.id
    assert told["data"]["metadata"] == {"order": "4711"}
    (asset,) = told["data"]["assets"]
    assert asset == {**{name: ASSET[name] for name in message.TOLD_OF_ASSETS}, "path": f"/v1/assets/{ASSET['id']}"}
    assert "assets/as_00000000000000000000000000.png" not in json.dumps(told)


@pytest.mark.parametrize("status", ["succeeded", "failed", "canceled", "timed_out"])
def test_the_type_tells_how_the_job_ended(status: str) -> None:
    assert message.event_type(job(status=status)) == f"job.{status}"


@given(
    key=st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    value=st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    detail=st.characters(exclude_categories=["Cs"]),
)
def test_the_largest_job_fits_into_twenty_kilobytes(key: str, value: str, detail: str) -> None:
    pairs = {f"{number:02}{key * 62}": value * 500 for number in range(MOST_METADATA)}
    largest = job(
        status="failed",
        batch="batch_" + "0" * 26,
        assets=(ASSET,) * 4,
        metadata=pairs,
        error=Failure("provider_failed", detail * 5000),
    )

    text = message.body(largest)

    assert len(text.encode()) < LARGEST_BODY == 20_000
    assert json.loads(text)["data"]["metadata"] in (pairs, None)


def test_metadata_that_fits_is_told() -> None:
    pairs = {f"{number:02}": "x" * 500 for number in range(MOST_METADATA)}

    assert json.loads(message.body(job(status="succeeded", metadata=pairs)))["data"]["metadata"] == pairs


# How it is signed

BODY = message.body(job(status="succeeded", metadata={"name": "Müller €"})).encode()


@pytest.mark.parametrize("secret", [WEBHOOK_SECRET, OTHER_SECRET])
def test_the_reference_library_verifies_with_either_secret_of_a_rotation(secret: str) -> None:
    headers = send.headers([OTHER_SECRET, WEBHOOK_SECRET], "msg_1", int(time.time()), BODY)

    assert headers["webhook-signature"].count("v1,") == 2
    Webhook(secret).verify(BODY, headers)


@pytest.mark.parametrize(
    "changed", [{"webhook-id": "msg_2"}, {"webhook-timestamp": str(int(time.time()) - 1)}, {"webhook-signature": ""}]
)
def test_the_reference_library_refuses_what_was_changed(changed: dict[str, str]) -> None:
    headers = send.headers([WEBHOOK_SECRET], "msg_1", int(time.time()), BODY)

    with pytest.raises(WebhookVerificationError):
        Webhook(WEBHOOK_SECRET).verify(BODY, headers | changed)


def test_the_published_vector_comes_out() -> None:
    body = b'{"test": 2432232314}'

    headers = send.headers([WEBHOOK_SECRET], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)

    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


# Secrets

OLD = Secret("whsec_b2xk", "2026-10-01T10:00:00.000Z")
NEW = Secret("whsec_bmV3", "2026-10-02T10:00:00.000Z")


def test_a_replaced_secret_is_good_until_the_overlap_ends() -> None:
    rotated = callback_secrets.rotation([OLD], NEW, 2000)

    assert [each.secret for each in callback_secrets.good(rotated, 1999)] == [NEW.secret, OLD.secret]
    assert [each.secret for each in callback_secrets.good(rotated, 2000)] == [NEW.secret]


def test_another_rotation_lets_no_secret_live_longer() -> None:
    known = [NEW, Secret("whsec_b2xk", "2026-10-01T10:00:00.000Z", until=1500)]

    rotated = callback_secrets.rotation(known, Secret("whsec_eA==", "2026-10-03T10:00:00.000Z"), 2000)

    assert [each.until for each in rotated] == [None, 2000, 1500]


def test_who_rotates_again_and_again_has_five_secrets() -> None:
    known: tuple[Secret, ...] = ()
    for number in range(20):
        known = callback_secrets.rotation(known, Secret(f"whsec_{number}", ""), 1000 + number)

    assert [each.secret for each in known] == [f"whsec_{number}" for number in range(19, 19 - MOST, -1)]


# Where it goes


class Recorded(httpx.BaseTransport):
    """Answers, and remembers what it was asked."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response] | None = None) -> None:
        self.seen: list[httpx.Request] = []
        self.answer = answer or (lambda _: httpx.Response(204))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        return self.answer(request)


def resolving(*addresses: str) -> Resolve:
    return lambda host, port: list(addresses)


def posted(
    url: str = URL,
    *,
    transport: httpx.BaseTransport | None = None,
    resolve: Resolve = resolving(PUBLIC),  # noqa: B008 A plain function.
    allowed: frozenset[str] = frozenset(),
    timeout: float = 2,
) -> send.Answer:
    headers = send.headers([WEBHOOK_SECRET], "msg_1", 1614265330, BODY)
    return send.post(url, headers, BODY, timeout=timeout, allowed=allowed, transport=transport, resolve=resolve)


def test_a_callback_goes_to_the_checked_address_under_the_hosts_name() -> None:
    transport = Recorded()

    answer = posted(transport=transport)

    (request,) = transport.seen
    assert (answer.status_code, answer.error) == (204, None)
    assert (request.method, request.url.host, request.url.raw_path) == ("POST", PUBLIC, b"/callbacks?tenant=1")
    assert request.headers["host"] == "studio.example.com"
    assert request.headers["user-agent"] == "Atelier"
    assert request.extensions["sni_hostname"] == "studio.example.com"
    assert request.content == BODY


def test_a_name_that_resolves_differently_the_second_time_gains_nothing() -> None:
    answers = iter([[PUBLIC], ["169.254.169.254"]])
    transport = Recorded()

    first = posted(transport=transport, resolve=lambda host, port: next(answers))
    second = posted(transport=transport, resolve=lambda host, port: ["169.254.169.254"])

    assert (first.status_code, second.error) == (204, "address_refused")
    assert [request.url.host for request in transport.seen] == [PUBLIC]


@pytest.mark.parametrize(
    ("url", "address", "expected"),
    [
        (URL, "10.0.0.1", "address_refused"),
        (URL, "169.254.169.254", "address_refused"),
        (URL, "::1", "address_refused"),
        (URL, "::ffff:10.0.0.1", "address_refused"),
        (URL, "64:ff9b::7f00:1", "address_refused"),
        ("http://studio.example.com/", PUBLIC, "address_refused"),
        ("https://user@studio.example.com/", PUBLIC, "address_refused"),
        ("file:///etc/passwd", PUBLIC, "address_refused"),
    ],
)
def test_nothing_is_sent_where_we_do_not_go(url: str, address: str, expected: str) -> None:
    transport = Recorded()

    answer = posted(url, transport=transport, resolve=resolving(address))

    assert (answer.status_code, answer.error) == (None, expected)
    assert transport.seen == []


def test_a_host_without_an_address_is_a_failure_like_another() -> None:
    def nowhere(host: str, port: int) -> list[str]:
        raise OSError("no such host")

    assert posted(resolve=nowhere).error == "no_address"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["https://elsewhere.example/", "http://127.0.0.1/", "/again"])
def test_a_redirect_is_not_followed(status: int, location: str) -> None:
    transport = Recorded(lambda _: httpx.Response(status, headers={"location": location}))

    assert posted(transport=transport).status_code == status
    assert len(transport.seen) == 1


def test_what_a_receiver_asks_for_is_passed_on() -> None:
    transport = Recorded(lambda _: httpx.Response(503, headers={"retry-after": "120"}))

    assert posted(transport=transport).retry_after == "120"


class Endless(httpx.SyncByteStream):
    """A body that nobody should read."""

    def __init__(self) -> None:
        self.read = 0

    def __iter__(self) -> Iterator[bytes]:
        while True:
            self.read += 1
            yield bytes(65_536)


def test_the_body_of_an_answer_is_not_read() -> None:
    body = Endless()

    assert posted(transport=Recorded(lambda _: httpx.Response(200, stream=body))).status_code == 200
    assert body.read == 0


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (httpx.ConnectError, "no_answer"),
        (httpx.RemoteProtocolError, "no_answer"),
        (httpx.ReadError, "no_answer"),
        (httpx.ReadTimeout, "timeout"),
        (httpx.ConnectTimeout, "timeout"),
    ],
)
def test_no_answer_has_a_class(error: type[httpx.TransportError], expected: str) -> None:
    def silent(request: httpx.Request) -> httpx.Response:
        raise error("no", request=request)

    assert posted(transport=Recorded(silent)).error == expected


@contextmanager
def trickling(first: bytes) -> Iterator[str]:
    """A server that sends a byte ten times a second and never comes to an end; its origin."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(first)
            while not over.wait(0.1):
                try:
                    connection.sendall(b"x")
                except OSError:
                    return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        over.set()
        thread.join(5)
        listener.close()


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 200 OK\r\nx-slow: "])
def test_a_receiver_that_sends_a_byte_now_and_then_gains_no_time(first: bytes) -> None:
    with trickling(first) as origin:
        begun = time.monotonic()
        answer = posted(f"{origin}/", allowed=frozenset({origin}), timeout=0.5)

        assert answer.error in ("timeout", "no_answer")
        assert time.monotonic() - begun < 2


def test_a_look_up_that_hangs_is_a_timeout() -> None:
    released = threading.Event()

    def hanging(host: str, port: int) -> list[str]:
        released.wait(5)
        return [PUBLIC]

    begun = time.monotonic()
    answer = posted(resolve=hanging, timeout=0.2)
    took = time.monotonic() - begun
    released.set()

    assert answer.error == "timeout"
    assert took < 2


def test_a_call_within_its_time_gives_what_it_gives() -> None:
    def broken() -> None:
        raise LookupError("nothing there")

    assert within(5, lambda: 42) == 42
    with pytest.raises(LookupError):
        within(5, broken)


# What the functions are woken by


@pytest.fixture
def unheard(cloud: Loopback) -> Loopback:
    """Nobody of the account has a connection for realtime."""
    cloud.says("DynamoDB_20120810.Query", {"Items": [], "Count": 0})
    cloud.says("DynamoDB_20120810.GetItem", {})
    return cloud


def written(cloud: Loopback) -> list[dict[str, Any]]:
    """The members of the transactions that were asked for."""
    return [
        member
        for target, asked in cloud.seen
        if target.endswith(".TransactWriteItems")
        for member in json.loads(asked)["TransactItems"]
    ]


def test_the_end_of_a_job_is_written_down_and_queued_once(unheard: Loopback) -> None:
    unheard.says("DynamoDB_20120810.TransactWriteItems", {})
    unheard.says("AmazonSQS.SendMessage", {"MessageId": "1"})

    answer = announce.handler(load("events/announce.json"), Context())

    assert answer == {"batchItemFailures": []}
    put, told = written(unheard)
    delivery = dynamo.plain(put["Put"]["Item"])
    assert put["Put"]["TableName"] == "deliveries"
    assert (delivery["id"], delivery["state"], delivery["tries"]) == (JOB, "pending", 0)
    assert delivery["url"] == "https://studio.example.com/atelier/callbacks"
    assert json.loads(delivery["body"])["data"]["id"] == JOB
    assert told["Update"]["Key"] == {"id": {"S": JOB}}
    ((_, sent),) = [(target, asked) for target, asked in unheard.seen if target == "AmazonSQS.SendMessage"]
    assert queue.read(json.loads(sent)["MessageBody"]) == (JOB, 0)


@pytest.mark.parametrize(
    ("old", "new"),
    [("processing", "storing"), ("succeeded", "succeeded"), ("failed", "failed"), (None, "queued")],
)
def test_nothing_but_the_end_of_a_job_is_told(unheard: Loopback, old: str | None, new: str) -> None:
    event = load("events/announce.json")
    images = event["Records"][0]["dynamodb"]
    images["NewImage"]["status"] = {"S": new}
    images["OldImage"] |= {"status": {"S": old}} if old else {}
    if old is None:
        del images["OldImage"]

    assert announce.handler(event, Context()) == {"batchItemFailures": []}
    assert written(unheard) == []


def test_a_job_without_a_callback_and_what_is_no_job_are_left_alone(unheard: Loopback) -> None:
    event = load("events/announce.json")
    del event["Records"][0]["dynamodb"]["NewImage"]["callback_url"]
    batch = {"dynamodb": {"NewImage": {"id": {"S": "batch_1"}, "is_split": {"BOOL": False}}, "SequenceNumber": "2"}}
    gone = {"dynamodb": {"OldImage": event["Records"][0]["dynamodb"]["OldImage"], "SequenceNumber": "3"}}

    answer = announce.handler({"Records": [*event["Records"], batch, gone]}, Context())

    assert answer == {"batchItemFailures": []}
    assert written(unheard) == []


def test_what_cannot_be_written_down_is_given_back_to_the_stream(unheard: Loopback) -> None:
    """Beside a record that is well: a batch that fails as a whole is raised."""
    unheard.says(
        "DynamoDB_20120810.TransactWriteItems", {"__type": "AccessDeniedException", "message": "no"}, status=400
    )
    event = load("events/announce.json")
    well = {"dynamodb": {"NewImage": {"id": {"S": "batch_1"}}, "SequenceNumber": "2"}}

    answer = announce.handler({"Records": [well, *event["Records"]]}, Context())

    number = event["Records"][0]["dynamodb"]["SequenceNumber"]
    assert answer == {"batchItemFailures": [{"itemIdentifier": number}]}


def test_a_message_for_what_is_not_there_is_done_with(cloud: Loopback) -> None:
    cloud.says("DynamoDB_20120810.GetItem", {})

    answer = deliver_callback.handler(load("events/deliver_callback.json"), Context())

    assert answer == {"batchItemFailures": []}
    assert [target for target, _ in cloud.seen] == ["DynamoDB_20120810.GetItem"]


# The queue


@pytest.mark.parametrize(("delay", "seconds"), [(0, 0), (0.15, 1), (5, 5), (5.01, 6), (899.5, 900), (900, 900)])
def test_a_message_comes_back_as_it_was_sent_and_never_earlier_than_planned(
    cloud: Loopback, delay: float, seconds: int
) -> None:
    cloud.says("AmazonSQS.SendMessage", {"MessageId": "1"})

    queue.send("job_1", "alice", delay=delay, waits=3)

    ((_, asked),) = cloud.seen
    sent = json.loads(asked)
    assert queue.read(sent["MessageBody"]) == ("job_1", 3)
    assert (sent["DelaySeconds"], sent["MessageGroupId"]) == (seconds, "alice")
    assert sent["QueueUrl"] == ENVIRONMENT["CALLBACKS_QUEUE"]
