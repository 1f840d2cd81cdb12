"""Realtime: every change of a job comes at once and in order, to its account and to nobody else; a ticket opens one
connection; whoever is away, slow or dead harms nobody."""

import time
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from local.cloud import Stack
from shared.core import ids
from shared.core.standing import MAX_AGE_S
from tests.e2e.callbacks import Receiver, new_secret, until
from tests.e2e.helpers import Recording, at_once, check_problem, eventually, moment
from tests.e2e.sockets import socket, ticket
from tests.e2e.test_iam import REALTIME, covers, recorded_as, rights
from tests.support import Json, Studio, rows

BAD_TICKET = "ticket_" + "0" * ids.LENGTH + "_" + "0" * 64
FRAME = 32_000
PROMPT_S = 15
"""A change is told within a second or two; a busy machine may take longer."""
WAY = ["queued", "submitting", "processing", "storing", "succeeded"]


@pytest.fixture(autouse=True)
def _recorded(recording: Recording) -> None:
    """Every AWS call is recorded: the last test looks at what they were."""


def known(studio: Studio) -> dict[str, Json]:
    """The account's connections, as the table has them, by id."""
    found = rows(studio.stack, "connections", id=f"account#{studio.account}")
    return dict(found[0]["connections"]) if found else {}


def invent(studio: Studio, *, opened_at: float, count: int = 1) -> list[str]:
    """Connections of the account that are none, in the table."""
    client, table = studio.stack.client("dynamodb"), studio.stack.tables["connections"]
    (template,) = [each for each in known(studio).values() if not each["id"].startswith("invented-")][:1]
    made = [f"invented-{number}" for number in range(count)]
    for name in made:
        changed = {**template, "id": name, "opened_at": opened_at}
        item = {"M": {key: _attribute(value) for key, value in changed.items()}}
        client.put_item(TableName=table, Item={"id": {"S": f"connection#{name}"}, "connection": item})
        client.update_item(
            TableName=table,
            Key={"id": {"S": f"account#{studio.account}"}},
            UpdateExpression="SET connections.#id = :item",
            ExpressionAttributeNames={"#id": name},
            ExpressionAttributeValues={":item": item},
        )
    return made


def _attribute(value: Any) -> Json:
    if isinstance(value, bool):
        return {"BOOL": value}
    return {"S": value} if isinstance(value, str) else {"N": str(value)}


def refused(url: str) -> int:
    """The status of the answer of an address that opens nothing."""
    with pytest.raises(InvalidStatus) as answer, socket(url):
        pass
    return int(answer.value.response.status_code)


# What comes


def test_every_change_of_a_job_comes_in_order_until_its_end(studio: Studio) -> None:
    with socket(ticket(studio)) as client:
        job = studio.create("a lighthouse", metadata={"order": "4711"})

        told = client.ended(job["id"])

    assert {message["type"] for message in told} == {"job.updated"}
    assert [message["seq"] for message in told] == list(range(len(told)))
    statuses = list(dict.fromkeys(message["job"]["status"] for message in told))
    assert sorted(statuses, key=WAY.index) == statuses
    assert statuses[-2:] == ["storing", "succeeded"]
    progress = [message["job"]["progress"] for message in told]
    assert progress == sorted(progress)
    last, now = told[-1]["job"], studio.job(job["id"])
    assert {**last, "assets": None} == {**now, "assets": None}
    assert [asset["sha256"] for asset in last["assets"]] == [asset["sha256"] for asset in now["assets"]]
    assert httpx.get(last["assets"][0]["url"], trust_env=False).status_code == 200


def test_every_connection_of_an_account_hears_the_same_and_no_other_account_hears_it(new_studio: Any) -> None:
    alice, bob = new_studio(), new_studio()
    with socket(ticket(alice)) as one, socket(ticket(alice)) as other, socket(ticket(bob)) as stranger:
        jobs = [alice.create("[sim outcome=failed]"), bob.create("[sim outcome=failed]")]

        first, second = one.ended(jobs[0]["id"]), other.ended(jobs[0]["id"])
        strange = stranger.ended(jobs[1]["id"])

        assert first == second
        assert {message["job"]["id"] for message in first} == {jobs[0]["id"]}
        assert {message["job"]["id"] for message in strange} == {jobs[1]["id"]}
        assert stranger.is_quiet()
        assert stranger.sync() == [{"type": "sync", "jobs": [], "last": True}]


def test_who_was_away_gets_the_current_state_of_what_is_under_way(studio: Studio) -> None:
    running, over = studio.create("[sim outcome=never]"), studio.create("[sim outcome=failed]")
    studio.wait(over["id"])
    studio.wait(running["id"], until={"processing"})

    with socket(ticket(studio)) as client:
        (page,) = client.sync()
        (state,) = page["jobs"]
        studio.http.post(f"/jobs/{running['id']}/cancel")
        told = client.ended(running["id"])

    assert (state["job"]["id"], state["job"]["status"]) == (running["id"], "processing")
    assert told[-1]["job"]["status"] == "canceled"
    # The end of the other job may be told late.
    heard = [message["seq"] for message in told if message["job"]["id"] == running["id"]]
    assert heard == list(range(state["seq"] + 1, state["seq"] + 1 + len(heard)))


def test_a_large_sync_comes_in_messages_that_a_frame_holds(studio: Studio) -> None:
    metadata = {f"{number:02}": "x" * 500 for number in range(20)}
    jobs = [studio.create("[sim outcome=never]", metadata=metadata) for _ in range(4)]

    with socket(ticket(studio)) as client:
        pages = client.sync()

    assert len(pages) > 1
    assert [page["last"] for page in pages] == [False] * (len(pages) - 1) + [True]
    assert [state["job"]["id"] for page in pages for state in page["jobs"]] == [job["id"] for job in jobs]
    assert all(state["job"]["metadata"] == metadata for page in pages for state in page["jobs"])
    assert max(len(str(page)) for page in pages) < FRAME
    for job in jobs:
        studio.http.post(f"/jobs/{job['id']}/cancel")
        studio.wait(job["id"])


def test_what_is_not_understood_is_answered_and_the_connection_stays(studio: Studio) -> None:
    with socket(ticket(studio)) as client:
        for sent, code in (
            ("hello", "malformed_json"),
            ("", "malformed_json"),
            ('{"action": "sync"', "malformed_json"),
            ("[" * 900, "malformed_json"),
            ("[]", "unknown_action"),
            ("{}", "unknown_action"),
            ('{"action": ["sync"]}', "unknown_action"),
            ('{"action": null}', "unknown_action"),
            ('{"action": "sync", "padding": "' + "x" * 1000 + '"}', "too_large"),
        ):
            client.send(sent)
            answer = client.next()
            assert (answer["type"], answer["code"]) == ("error", code), sent
            assert answer["detail"]

        assert client.is_quiet()


@pytest.mark.parametrize("route", ["$connect", "$disconnect"])
def test_a_message_that_calls_itself_by_another_route_changes_nothing(studio: Studio, route: str) -> None:
    with socket(ticket(studio)) as client:
        client.send({"action": route})
        assert client.is_quiet()

        job = studio.create("[sim outcome=failed]")

        assert client.ended(job["id"])
        assert len(known(studio)) == 1


# Tickets


def test_a_ticket_needs_a_token(stack: Stack) -> None:
    check_problem(httpx.post(f"{stack.api_url}/v1/realtime/tickets", timeout=60, trust_env=False), 401, "unauthorized")


def test_a_ticket_opens_one_connection(studio: Studio) -> None:
    url = ticket(studio)
    with socket(url) as client:
        assert refused(url) in (401, 403)
        assert client.is_quiet()

    assert refused(url) in (401, 403)


def test_of_parallel_connections_with_one_ticket_one_is_made(studio: Studio) -> None:
    url = ticket(studio)

    def tries() -> bool:
        try:
            with socket(url):
                return True
        except InvalidStatus:
            return False

    assert sorted(at_once([tries] * 4)) == [False, False, False, True]


def test_an_expired_ticket_opens_nothing(studio: Studio) -> None:
    url = ticket(studio)
    change(studio.stack, f"ticket#{name_of(url)}", expires_at=int(time.time()) - 1)

    assert refused(url) in (401, 403)


def name_of(url: str) -> str:
    return url.partition("?ticket=")[2].rpartition("_")[0]


def change(stack: Stack, item_id: str, **values: float) -> None:
    stack.client("dynamodb").update_item(
        TableName=stack.tables["connections"],
        Key={"id": {"S": item_id}},
        UpdateExpression="SET " + ", ".join(f"{name} = :{name}" for name in values),
        ExpressionAttributeValues={f":{name}": {"N": str(value)} for name, value in values.items()},
    )


@pytest.mark.parametrize(
    "query", ["", "?ticket=", "?ticket=x", f"?ticket={BAD_TICKET}", "?ticket=" + "a" * 3000, "?token=a.b.c"]
)
def test_what_is_no_ticket_opens_nothing(stack: Stack, query: str) -> None:
    assert refused(f"{stack.websocket_url}{query}") in (401, 403)


def test_another_proof_opens_nothing_and_spoils_nothing(studio: Studio) -> None:
    url = ticket(studio)

    assert refused(url[:-4] + ("0000" if url[-4:] != "0000" else "1111")) in (401, 403)
    with socket(url) as client:
        assert client.is_quiet()


def test_a_repeated_request_gets_the_same_ticket_while_it_is_valid(studio: Studio) -> None:
    headers = {"idempotency-key": "one"}
    first, again = (studio.http.post("/realtime/tickets", headers=headers) for _ in range(2))

    assert (first.status_code, first.json()) == (again.status_code, again.json())
    assert [answer.headers.get("idempotency-replayed") for answer in (first, again)] == [None, "true"]
    change(studio.stack, f"ticket#{name_of(first.json()['url'])}", expires_at=int(time.time()) - 1)
    later = studio.http.post("/realtime/tickets", headers=headers)
    assert later.headers.get("idempotency-replayed") is None
    assert later.json()["url"] != first.json()["url"]
    assert refused(first.json()["url"]) in (401, 403)
    with socket(later.json()["url"]) as client:
        assert client.is_quiet()


def test_the_table_has_no_ticket_that_could_be_used(studio: Studio) -> None:
    url = ticket(studio)
    proof = url.rpartition("_")[2]

    (item,) = rows(studio.stack, "connections", id=f"ticket#{name_of(url)}")
    assert proof not in str(item)
    assert 0 < float(item["expires_at"]) - time.time() <= 60


# Whoever is dead, slow or no longer welcome


def test_a_connection_that_is_closed_is_forgotten(studio: Studio) -> None:
    with socket(ticket(studio)):
        (connection_id,) = known(studio)

    eventually(lambda: not known(studio), timeout=30, what="empty list of connections")
    eventually(
        lambda: not rows(studio.stack, "connections", id=f"connection#{connection_id}"), timeout=30, what="lost row"
    )


def test_a_dead_connection_is_forgotten_at_the_next_event(studio: Studio) -> None:
    with socket(ticket(studio)) as client:
        (dead,) = invent(studio, opened_at=time.time() - 60)
        job = studio.create("[sim outcome=failed]")
        client.ended(job["id"])

        eventually(lambda: dead not in known(studio), timeout=30, what="end of the dead connection")
        assert len(known(studio)) == 1
        assert rows(studio.stack, "connections", id=f"connection#{dead}") == []


def test_a_client_that_never_reads_delays_nobody(new_studio: Any) -> None:
    slow, quick = new_studio(), new_studio()
    with ExitStack() as ends:
        for _ in range(3):
            ends.enter_context(socket(ticket(slow)))
        client = ends.enter_context(socket(ticket(quick)))
        crowd = [slow.create("[sim outcome=failed]") for _ in range(2)]
        job = quick.create("[sim outcome=failed]")

        told = client.ended(job["id"])

        assert time.time() - moment(told[-1]["job"]["updated_at"]) < PROMPT_S
        assert [message["seq"] for message in told] == list(range(len(told)))
        for each in crowd:
            slow.wait(each["id"])


def test_the_oldest_connection_makes_room_for_the_twenty_first(studio: Studio) -> None:
    with socket(ticket(studio)) as oldest:
        (first,) = known(studio)
        invent(studio, opened_at=time.time() + 1, count=19)

        with socket(ticket(studio)) as newest:
            assert oldest.closes() == [{"type": "closing", "code": "too_many_connections"}]

            assert len(known(studio)) == 20
            assert first not in known(studio)
            assert newest.is_quiet()


def test_a_connection_ends_with_the_key_that_it_was_asked_for_with(studio: Studio) -> None:
    made = studio.http.post("/api-keys", json={"name": "panel", "scopes": ["studio"]}).json()
    headers = {"authorization": f"Bearer {made['key']}"}
    url = ticket(studio, **headers)
    unused = ticket(studio, **headers)
    with socket(url) as client:
        assert client.is_quiet()
        assert studio.http.delete(f"/api-keys/{made['id']}").status_code == 204
        time.sleep(MAX_AGE_S + 1)

        job = studio.create("[sim outcome=failed]")

        assert client.closes() == []
    assert refused(unused) in (401, 403)
    assert known(studio) == {}
    studio.wait(job["id"])


def test_a_connection_ends_with_the_token_that_it_was_asked_for_with(studio: Studio) -> None:
    token = studio.stack.token(studio.account, ttl=600)
    url = ticket(studio, authorization=f"Bearer {token}")
    with socket(url) as client:
        (row,) = known(studio).values()
        assert 0 < float(row["ends_at"]) - time.time() <= 600
        assert studio.http.post("/auth/revoke", json={"token": token}).status_code == 200
        time.sleep(MAX_AGE_S + 1)

        client.send({"action": "sync"})

        assert client.closes() == []


def test_a_connection_whose_time_has_come_hears_nothing_more(studio: Studio) -> None:
    with socket(ticket(studio)) as client:
        (connection_id,) = known(studio)
        studio.stack.client("dynamodb").update_item(
            TableName=studio.stack.tables["connections"],
            Key={"id": {"S": f"account#{studio.account}"}},
            UpdateExpression="SET connections.#id.ends_at = :past",
            ExpressionAttributeNames={"#id": connection_id},
            ExpressionAttributeValues={":past": {"N": str(time.time() - 1)}},
        )

        job = studio.create("[sim outcome=failed]")

        assert client.closes() == []
    studio.wait(job["id"])


# What each function may do


def test_a_job_with_a_callback_tells_both(studio: Studio) -> None:
    receiver = Receiver(studio.stack)
    new_secret(studio)
    with socket(ticket(studio)) as client:
        job = studio.create("[sim outcome=failed]", callback_url=receiver.url)

        assert client.ended(job["id"])[-1]["job"]["callback_url"] == receiver.url
        until(studio, job["id"], "delivered")


@pytest.mark.parametrize("name", sorted(REALTIME))
def test_no_function_of_realtime_has_a_right_that_it_does_not_use(
    stack: Stack, recording: Recording, name: str
) -> None:
    """After all of the tests above."""
    allowed = rights(stack, recording.roles[name])
    used = recording.calls(name, {event for action, _ in allowed for event in recorded_as(action)})

    # What is sent to connections is not recorded; the emulator refuses it to others, and the tests above have got it.
    own = {right for right in allowed if "DeadLetters" not in right[1] and not right[0].startswith("execute-api:")}
    unused = {right for right in own if not any(covers(right, call) for call in used)}
    # Signing an address is no call; a test above has fetched one.
    assert {right for right in unused if right[0] != "s3:GetObject"} == set()
    assert {call for call in used if not any(covers(right, call) for right in allowed)} == set()
