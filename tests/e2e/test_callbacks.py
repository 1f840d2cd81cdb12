"""Outgoing callbacks: every one verifies, none is lost, nobody waits for another account's receiver, and none goes
where it should not."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from local.cloud import Stack
from tests.e2e.callbacks import TIMEOUT_S, Receiver, ended, log, new_secret, redeliver, until, verify
from tests.e2e.helpers import Recording, at_once, check_problem, eventually, moment, pointers
from tests.e2e.test_iam import CALLBACKS, covers, recorded_as, rights
from tests.support import Json, Studio, rows

LARGEST_BODY = 20_000


@pytest.fixture(autouse=True)
def _recorded(recording: Recording) -> None:
    """Every AWS call is recorded: the last test looks at what they were."""


@pytest.fixture
def receiver(stack: Stack) -> Receiver:
    return Receiver(stack)


@pytest.fixture
def secret(studio: Studio) -> str:
    """The account's callback secret."""
    return new_secret(studio)


def change(stack: Stack, table: str, item_id: str, **values: str | float) -> None:
    """Set attributes of an item behind the product's back."""
    stack.client("dynamodb").update_item(
        TableName=stack.tables[table],
        Key={"id": {"S": item_id}},
        UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in values),
        ExpressionAttributeNames={f"#{name}": name for name in values},
        ExpressionAttributeValues={
            f":{name}": {"S": value} if isinstance(value, str) else {"N": str(value)} for name, value in values.items()
        },
    )


def make_overdue(studio: Studio, job_id: str, *, tries: int, **lease: str | float) -> None:
    """The delivery as it was before its end, overdue, and without a message in the queue."""
    past = time.time() - 100
    due = "2026-01-01T00:00:00.000Z#" + job_id
    state: dict[str, str | float] = {"state": "pending", "tries": tries, "next_attempt_at": past}
    change(studio.stack, "deliveries", job_id, **state, due_shard=f"due#{tries % 4}", due=due, **lease)


DEAD_WORKER: dict[str, str | float] = {"lease": "lease_of_the_dead", "leased_until": 1}


def sweep(stack: Stack) -> Json:
    """Run the deployed sweeper of callbacks now; what it has found."""
    name = stack.functions["SweepCallbacksFunction"]
    answer = stack.client("lambda").invoke(FunctionName=name, Payload=b"{}")
    found = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, found
    return dict(found)


# What comes


def test_the_end_of_a_job_is_told_and_the_reference_library_verifies_it(
    studio: Studio, receiver: Receiver, secret: str
) -> None:
    made = studio.create("a lighthouse", callback_url=receiver.url, metadata={"order": "4711"})
    failed = studio.create("[sim outcome=failed]", callback_url=receiver.url)
    stopped = studio.create("[sim outcome=never]", callback_url=receiver.url)
    studio.http.post(f"/jobs/{stopped['id']}/cancel")
    jobs = {job["id"]: studio.wait(job["id"], timeout=150) for job in (made, failed, stopped)}

    calls = receiver.got(3)

    assert {call["event"]["data"]["id"]: call["event"]["type"] for call in calls} == {
        made["id"]: "job.succeeded",
        failed["id"]: "job.failed",
        stopped["id"]: "job.canceled",
    }
    for call in calls:
        verify(call, secret)
        assert call["headers"]["user-agent"] == "Atelier"
        assert call["headers"]["content-type"] == "application/json"
        told, job = call["event"]["data"], jobs[call["event"]["data"]["id"]]
        same = ("id", "kind", "model", "status", "credits", "error", "metadata", "created_at", "updated_at")
        assert {name: told[name] for name in same} == {name: job[name] for name in same}
        assert [(asset["id"], asset["sha256"]) for asset in told["assets"]] == [
            (asset["id"], asset["sha256"]) for asset in job["assets"]
        ]
        for asset in told["assets"]:
            assert studio.http.get(asset["path"].removeprefix("/v1")).status_code == 200
        assert "X-Amz-" not in call["body"]
        delivered = until(studio, told["id"], "delivered")
        assert delivered["webhook_id"] == call["headers"]["webhook-id"]
        (attempt,) = delivered["attempts"]
        assert (attempt["status_code"], attempt["error"]) == (204, None)
    assert len({call["headers"]["webhook-id"] for call in calls}) == 3
    assert len(receiver.calls()) == 3


def test_every_generation_of_a_batch_has_its_own_callback(studio: Studio, secret: str) -> None:
    receivers = [Receiver(studio.stack), Receiver(studio.stack)]
    generations = [{"kind": "image", "prompt": "[sim outcome=failed]", "callback_url": each.url} for each in receivers]

    batch = studio.post("batches", {"generations": [*generations, {"kind": "image", "prompt": "[sim outcome=failed]"}]})

    for number, each in enumerate(receivers):
        (call,) = each.got(1)
        verify(call, secret)
        assert call["event"]["data"]["id"] == batch["items"][number]["id"]
        assert call["event"]["data"]["batch"] == batch["id"]
    for job in batch["items"]:
        studio.wait(job["id"])
    check_problem(studio.http.get(f"/jobs/{batch['items'][2]['id']}/callback"), 404, "not_found")


def test_the_callback_of_the_largest_request_stays_small(studio: Studio, receiver: Receiver, secret: str) -> None:
    job = ended(studio, receiver, metadata={f"{number:02}": "ü" * 500 for number in range(20)})

    (call,) = receiver.got(1)

    verify(call, secret)
    assert len(call["body"].encode()) < LARGEST_BODY
    assert call["event"]["data"]["metadata"] is None
    assert len(studio.job(job["id"])["metadata"]) == 20


def test_a_job_that_has_not_ended_has_a_callback_that_waits(studio: Studio, receiver: Receiver, secret: str) -> None:
    job = studio.create("[sim delay=1 outcome=failed]", callback_url=receiver.url)

    waiting = log(studio, job["id"])

    assert (waiting["state"], waiting["attempts"], waiting["url"]) == ("waiting", [], receiver.url)
    check_problem(studio.http.post(f"/jobs/{job['id']}/callback/redeliver"), 404, "not_found")
    assert studio.job(job["id"])["callback_url"] == receiver.url
    studio.wait(job["id"])
    until(studio, job["id"], "delivered")


def test_a_repeated_record_of_the_stream_tells_nobody_twice(studio: Studio, receiver: Receiver, secret: str) -> None:
    job = ended(studio, receiver)
    until(studio, job["id"], "delivered")
    client = studio.stack.client("dynamodb")
    image = client.get_item(TableName=studio.stack.tables["jobs"], Key={"id": {"S": job["id"]}})["Item"]
    old = {**image, "status": {"S": "processing"}}
    record = {"eventName": "MODIFY", "dynamodb": {"OldImage": old, "NewImage": image, "SequenceNumber": "1"}}

    answer = studio.stack.client("lambda").invoke(
        FunctionName=studio.stack.functions["AnnounceFunction"], Payload=json.dumps({"Records": [record]}).encode()
    )

    assert json.loads(answer["Payload"].read()) == {"batchItemFailures": []}
    time.sleep(1)
    assert len(receiver.calls()) == 1


# Secrets


def test_without_a_secret_nothing_is_accepted_and_nothing_held(studio: Studio, receiver: Receiver) -> None:
    body = {"prompt": "x", "callback_url": receiver.url}

    check_problem(studio.http.post("/images", json=body), 503, "callbacks_unconfigured")
    batch = {"generations": [{"kind": "image", **body}]}
    check_problem(studio.http.post("/batches", json=batch), 503, "callbacks_unconfigured")

    check_problem(studio.http.get("/callbacks/secret"), 404, "not_found")
    assert studio.credits() == {"available": 100, "held": 0, "spent": 0}
    assert studio.http.get("/jobs").json()["items"] == []


def test_in_the_middle_of_a_rotation_both_secrets_verify(studio: Studio, receiver: Receiver, secret: str) -> None:
    following = new_secret(studio)

    ended(studio, receiver)

    (call,) = receiver.got(1)
    assert following != secret
    assert call["headers"]["webhook-signature"].count("v1,") == 2
    verify(call, secret, following)
    told = studio.http.get("/callbacks/secret").json()
    assert told["secret"] == following
    assert [each["secret"] for each in told["previous"]] == [secret]
    assert moment(told["previous"][0]["expires_at"]) > time.time()


def test_a_rotation_between_two_attempts_counts_for_the_second(studio: Studio, receiver: Receiver, secret: str) -> None:
    receiver.behaves(status=503, times=1)
    ended(studio, receiver)
    receiver.got(1)

    following = new_secret(studio)

    first, second = receiver.got(2)
    verify(first, secret)
    verify(second, secret, following)


def test_a_repeated_rotation_is_the_same_rotation(studio: Studio) -> None:
    first, second = (
        studio.http.post("/callbacks/secret/rotate", headers={"idempotency-key": "monday"}) for _ in range(2)
    )
    other = studio.http.post("/callbacks/secret/rotate", headers={"idempotency-key": "tuesday"})

    assert first.json() == second.json()
    assert second.headers["idempotency-replayed"] == "true"
    assert other.json()["secret"] != first.json()["secret"]


def test_rotations_at_the_same_time_lose_no_secret(studio: Studio) -> None:
    answers = at_once([lambda: studio.http.post("/callbacks/secret/rotate")] * 3)

    made = {answer.json()["secret"] for answer in answers if answer.status_code == 200}
    told = studio.http.get("/callbacks/secret").json()
    assert {answer.status_code for answer in answers} <= {200, 503}
    assert {told["secret"], *(each["secret"] for each in told["previous"])} == made


# Receivers that fail


@pytest.mark.parametrize("status", [500, 404, 429, 302, "drop"])
def test_a_failed_attempt_is_made_again_under_the_same_id(
    studio: Studio, receiver: Receiver, secret: str, status: int | str
) -> None:
    elsewhere = Receiver(studio.stack)
    receiver.behaves(status=status, times=1, headers={"location": elsewhere.url})

    job = ended(studio, receiver)
    first, second = receiver.got(2)

    verify(first, secret)
    verify(second, secret)
    assert first["headers"]["webhook-id"] == second["headers"]["webhook-id"]
    assert int(first["headers"]["webhook-timestamp"]) < int(second["headers"]["webhook-timestamp"])
    assert first["body"] == second["body"]
    attempts = until(studio, job["id"], "delivered")["attempts"]
    failure = (None, "no_answer") if status == "drop" else (status, None)
    assert [(each["status_code"], each["error"]) for each in attempts] == [failure, (204, None)]
    assert elsewhere.calls() == []


def test_a_receiver_gets_the_time_it_asks_for(studio: Studio, receiver: Receiver, secret: str) -> None:
    receiver.behaves(status=503, times=1, headers={"retry-after": "5"})

    ended(studio, receiver)

    first, second = receiver.got(2)
    assert 5 <= second["at"] - first["at"] < 15


def test_who_answers_410_is_told_nothing_more_until_it_is_asked_for(
    studio: Studio, receiver: Receiver, secret: str
) -> None:
    receiver.behaves(status=410)
    first = ended(studio, receiver)
    disabled = until(studio, first["id"], "disabled")
    second = ended(studio, receiver)
    refused = until(studio, second["id"], "disabled")
    other = Receiver(studio.stack)
    elsewhere = ended(studio, other)

    assert [attempt["status_code"] for attempt in disabled["attempts"]] == [410]
    assert disabled["next_attempt_at"] is None
    assert refused["attempts"] == []
    assert len(receiver.calls()) == 1
    assert until(studio, elsewhere["id"], "delivered")

    receiver.behaves()
    assert redeliver(studio, first["id"]).status_code == 202
    until(studio, first["id"], "delivered")
    third = ended(studio, receiver)
    until(studio, third["id"], "delivered")
    assert len(receiver.calls()) == 3


@contextmanager
def time_scale(stack: Stack, scale: str) -> Iterator[None]:
    """Let the time of deliveries run faster."""
    client, name = stack.client("lambda"), stack.functions["DeliverCallbackFunction"]
    before = client.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    client.update_function_configuration(FunctionName=name, Environment={"Variables": {**before, "TIME_SCALE": scale}})
    try:
        yield
    finally:
        client.update_function_configuration(FunctionName=name, Environment={"Variables": before})


def test_a_receiver_that_is_down_for_a_day_loses_no_event(
    new_studio: Callable[..., Studio], receiver: Receiver, stack: Stack
) -> None:
    """A day takes half a minute. What was given up before it came back is in the list of the dead, and replayed."""
    studio = new_studio()
    secret = new_secret(studio)
    admin = {"authorization": f"Bearer {stack.tokens['admin']}"}
    receiver.behaves(status="drop")
    with time_scale(stack, "0.0004"):
        early = ended(studio, receiver)
        given_up = until(studio, early["id"], "dead", timeout=90)
        late = ended(studio, receiver)
        receiver.got(8)
        receiver.behaves()
        until(studio, late["id"], "delivered", timeout=90)

    assert len(given_up["attempts"]) == 7
    assert given_up["next_attempt_at"] is None
    dead = studio.http.get("/admin/callbacks/dead", params={"limit": 100}, headers=admin).json()["items"]
    assert [each["job_id"] for each in dead if each["account"] == studio.account] == [early["id"]]
    assert studio.http.post(f"/admin/callbacks/dead/{early['id']}/replay", headers=admin).status_code == 202
    until(studio, early["id"], "delivered")
    heard = {call["event"]["data"]["id"]: call for call in receiver.calls() if call["answer"] == 204}
    assert heard.keys() == {early["id"], late["id"]}
    for call in heard.values():
        verify(call, secret)
    assert heard[early["id"]]["headers"]["webhook-id"] == given_up["webhook_id"]
    dead = studio.http.get("/admin/callbacks/dead", params={"limit": 100}, headers=admin).json()["items"]
    assert [each for each in dead if each["account"] == studio.account] == []


def test_a_slow_receiver_delays_no_other_account(new_studio: Callable[..., Studio], stack: Stack) -> None:
    slow, quick = new_studio(), new_studio()
    new_secret(slow)
    new_secret(quick)
    hanging, well = Receiver(stack), Receiver(stack)
    hanging.behaves(slow=60)
    jobs = at_once([lambda: slow.create("[sim outcome=failed]", callback_url=hanging.url)] * 10)
    for job in jobs:
        slow.wait(job["id"])
    hanging.got(2)

    took = []
    for _ in range(4):
        job = ended(quick, well)
        delivered = until(quick, job["id"], "delivered")
        took.append(moment(delivered["attempts"][0]["at"]) - moment(job["updated_at"]))

    # Ten attempts of three seconds each, in four workers, would have kept the others waiting for longer than that.
    assert max(took) < TIMEOUT_S, took
    hanging.behaves()
    for job in jobs:
        until(slow, job["id"], "delivered", timeout=90)


# What may be lost on the way


def test_a_delivery_whose_message_was_lost_is_found(studio: Studio, receiver: Receiver, secret: str) -> None:
    job = ended(studio, receiver)
    until(studio, job["id"], "delivered")
    make_overdue(studio, job["id"], tries=0)

    assert sweep(studio.stack)["queued"] >= 1

    receiver.got(2)
    until(studio, job["id"], "delivered")


def test_a_delivery_whose_worker_died_is_made_again(studio: Studio, receiver: Receiver, secret: str) -> None:
    job = ended(studio, receiver)
    until(studio, job["id"], "delivered")
    make_overdue(studio, job["id"], tries=1, **DEAD_WORKER)

    sweep(studio.stack)

    receiver.got(2)
    until(studio, job["id"], "delivered")


def test_a_delivery_whose_last_try_killed_its_worker_is_given_up(
    studio: Studio, receiver: Receiver, secret: str
) -> None:
    job = ended(studio, receiver)
    until(studio, job["id"], "delivered")
    make_overdue(studio, job["id"], tries=7, **DEAD_WORKER)

    assert sweep(studio.stack)["given_up"] == 1

    assert log(studio, job["id"])["state"] == "dead"
    assert len(receiver.calls()) == 1


def test_a_job_whose_end_nobody_has_announced_is_found(studio: Studio, receiver: Receiver, secret: str) -> None:
    job = ended(studio, receiver)
    until(studio, job["id"], "delivered")
    client = studio.stack.client("dynamodb")
    client.delete_item(TableName=studio.stack.tables["deliveries"], Key={"id": {"S": job["id"]}})
    (item,) = rows(studio.stack, "jobs", id=job["id"])
    assert not {"open_shard", "sweep_at"} & item.keys()
    shards = [f"untold#{number}" for number in range(4)]
    # Which of them is the job's own, only the product knows; the others are refused as somebody else's.
    for shard in shards:
        change(studio.stack, "jobs", job["id"], open_shard=shard, sweep_at=1)
        sweep(studio.stack)

    receiver.got(2)
    until(studio, job["id"], "delivered")


# Where none goes

PRIVATE = [
    "https://10.0.0.1/",
    "https://127.0.0.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:a9fe:a9fe]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[fd00:ec2::254]/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0177.0.0.1/",
    "https://127.1/",
    "https://0/",
    "https://localhost/",
    "https://LOCALHOST./",
    "https://user@93.184.215.14/",
    "https://user:password@93.184.215.14/",
    "https://93.184.215.14@127.0.0.1/",
    "http://93.184.215.14/",
    "https://93.184.215.14:99999/",
    "https://93.184.215.14\\@127.0.0.1/",
    "https://no-such-host.invalid/",
    "file:///etc/passwd",
    "gopher://93.184.215.14/",
    "ftp://93.184.215.14/",
    "//93.184.215.14/",
    "93.184.215.14",
    "",
    "https://",
    "https://93.184.215.14/\r\nx: y",
    "https://93.184.215.14/ü",
    "https://93.184.215.14/" + "a" * 2048,
]


def test_a_url_that_callbacks_do_not_go_to_is_refused_at_creation(studio: Studio, secret: str) -> None:
    found = {url: pointers(studio.http.post("/images", json={"prompt": "x", "callback_url": url})) for url in PRIVATE}

    assert found == {url: {"/callback_url"} for url in PRIVATE}
    assert studio.http.get("/jobs").json()["items"] == []
    assert studio.credits() == {"available": 100, "held": 0, "spent": 0}
    generation = {"kind": "image", "prompt": "x", "callback_url": PRIVATE[0]}
    answer = studio.http.post("/batches", json={"generations": [{"kind": "image", "prompt": "x"}, generation]})
    assert pointers(answer) == {"/generations/1/callback_url"}


@pytest.mark.parametrize("url", ["https://127.0.0.1/", "https://localhost/", "http://127.0.0.1:1/"])
def test_a_name_that_has_become_private_is_not_called(
    studio: Studio, receiver: Receiver, secret: str, url: str
) -> None:
    """What a name resolves to may change between the creation of a job and its callback."""
    job = ended(studio, receiver)
    until(studio, job["id"], "delivered")
    change(studio.stack, "deliveries", job["id"], url=url)

    assert redeliver(studio, job["id"]).status_code == 202

    def attempted() -> list[Json] | None:
        attempts: list[Json] = log(studio, job["id"])["attempts"]
        return attempts if len(attempts) > 1 else None

    attempts = eventually(attempted, timeout=30, what="second attempt")
    assert (attempts[1]["status_code"], attempts[1]["error"]) == (None, "address_refused")
    assert len(receiver.calls()) == 1


# Asking for it again


def test_a_redelivery_has_the_same_id_and_body(studio: Studio, receiver: Receiver, secret: str) -> None:
    job = ended(studio, receiver)
    until(studio, job["id"], "delivered")

    answer = redeliver(studio, job["id"], **{"idempotency-key": "again"})
    repeat = studio.http.post(f"/jobs/{job['id']}/callback/redeliver", headers={"idempotency-key": "again"})

    assert answer.status_code == 202
    assert answer.json()["state"] == "pending"
    assert (repeat.status_code, repeat.headers.get("idempotency-replayed")) == (202, "true")
    first, second = receiver.got(2)
    verify(second, secret)
    assert first["headers"]["webhook-id"] == second["headers"]["webhook-id"]
    assert first["body"] == second["body"]
    assert len(until(studio, job["id"], "delivered")["attempts"]) == 2


def test_who_asks_again_and_again_gets_one_callback_in_five_seconds(
    studio: Studio, receiver: Receiver, secret: str
) -> None:
    job = ended(studio, receiver)
    until(studio, job["id"], "delivered")
    begun = time.monotonic()

    answers = at_once([lambda: studio.http.post(f"/jobs/{job['id']}/callback/redeliver")] * 10)

    took = time.monotonic() - begun
    refused = [answer for answer in answers if answer.status_code != 202]
    accepted = len(answers) - len(refused)
    assert 1 <= accepted <= 1 + took // 5
    for answer in refused:
        check_problem(answer, 429, "rate_limited")
        assert int(answer.headers["retry-after"]) > 0
    receiver.got(1 + accepted)
    time.sleep(1)
    assert len(receiver.calls()) == 1 + accepted


def test_another_accounts_callback_is_not_there(
    studio: Studio, new_studio: Callable[..., Studio], receiver: Receiver, secret: str
) -> None:
    job = ended(studio, receiver)
    until(studio, job["id"], "delivered")
    stranger = new_studio(0)
    new_secret(stranger)

    for answer in (
        stranger.http.get(f"/jobs/{job['id']}/callback"),
        stranger.http.post(f"/jobs/{job['id']}/callback/redeliver"),
        stranger.http.get(f"/jobs/slot%23{studio.account}%230/callback"),
    ):
        assert answer.status_code == 404
    for answer in (
        stranger.http.get("/admin/callbacks/dead"),
        stranger.http.post(f"/admin/callbacks/dead/{job['id']}/replay"),
    ):
        check_problem(answer, 403, "forbidden")
    assert stranger.http.get("/callbacks/secret").json()["secret"] != secret
    assert len(receiver.calls()) == 1


def test_an_administrator_replays_only_what_is_there(studio: Studio) -> None:
    headers = {"authorization": f"Bearer {studio.stack.tokens['admin']}"}

    for name in ("job_" + "0" * 26, "slot#x#0", "x"):
        answer = studio.http.post(f"/admin/callbacks/dead/{name.replace('#', '%23')}/replay", headers=headers)
        assert answer.status_code == 404


# What each function may do


@pytest.mark.parametrize("name", sorted(CALLBACKS))
def test_no_function_of_callbacks_has_a_right_that_it_does_not_use(
    stack: Stack, recording: Recording, name: str
) -> None:
    """After all of the tests above; what is dead or disabled was written by them as well."""
    allowed = rights(stack, recording.roles[name])
    used = recording.calls(name, {event for action, _ in allowed for event in recorded_as(action)})

    # Lambda itself writes to queues of dead letters, with the function's role.
    own = {right for right in allowed if "DeadLetters" not in right[1]}
    assert {right for right in own if not any(covers(right, call) for call in used)} == set()
    assert {call for call in used if not any(covers(right, call) for right in allowed)} == set()
