"""Realtime: what is sent, to whom, and what happens to a connection that does not take it."""

import io
import json
import time
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import announce
from realtime import connect, disconnect, message
from shared.core import aws, dynamo, standing
from shared.core.errors import RateLimited, Unauthorized
from shared.delivery import connections, realtime
from shared.delivery.connections import MOST, TICKET, Connection, Holder
from shared.jobs.requests import MOST_METADATA
from tests.unit.helpers import Answer, Context, Json, Loopback, job, load

GET = "DynamoDB_20120810.GetItem"
BATCH = "DynamoDB_20120810.BatchGetItem"
UPDATE = "DynamoDB_20120810.UpdateItem"
TRANSACT = "DynamoDB_20120810.TransactWriteItems"
LATER = time.time() + 3600
BEFORE = time.time() - 100
ASSET = {
    "id": "as_" + "0" * 26,
    "key": "assets/as_00000000000000000000000000.png",
    "role": "",
    "content_type": "image/png",
    "bytes": 1000,
    "sha256": "0" * 64,
    "width": 64,
    "height": 64,
}


def connection(name: str, **changes: Any) -> Connection:
    now = time.time()
    values = {"account": "alice", "credential": "jti-1", "is_key": False, "asked_at": now - 100}
    return Connection(**{"id": name, **values, "opened_at": now - 90, "ends_at": now + 900, **changes})


@dataclass
class Sockets:
    """The connections table and API Gateway's connections, on loopback."""

    server: Loopback
    items: dict[str, Json] = field(default_factory=dict)
    access: dict[str, Json] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.server.answers[GET] = self._get
        self.server.answers[BATCH] = self._batch
        self.server.says(TRANSACT, {})

    def _get(self, request: bytes) -> Answer:
        found = self.items.get(json.loads(request)["Key"]["id"]["S"])
        return 200, {}, json.dumps({"Item": dynamo.attributes(found)} if found else {}).encode()

    def _batch(self, request: bytes) -> Answer:
        ((table, asked),) = json.loads(request)["RequestItems"].items()
        found = [self.access[key["id"]["S"]] for key in asked["Keys"] if key["id"]["S"] in self.access]
        return 200, {}, json.dumps({"Responses": {table: [dynamo.attributes(item) for item in found]}}).encode()

    def has(self, *known: Connection, status: int = 200) -> None:
        """The account's connections; all take what they are sent."""
        told = {each.id: vars(each) for each in known}
        self.items["account#alice"] = {"id": "account#alice", "connections": told}
        for each in known:
            self.items[f"connection#{each.id}"] = {"id": f"connection#{each.id}", "connection": vars(each)}
            self.server.says(f"/live/@connections/{each.id}", {}, status=status)

    def fails(self, name: str, status: int, error: str) -> None:
        body = json.dumps({"message": error}).encode()
        headers = {"x-amzn-errortype": error, "content-type": "application/json"}
        self.server.answers[f"/live/@connections/{name}"] = lambda _: (status, headers, body)

    def hangs(self, name: str) -> None:
        def answer(body: bytes) -> Answer:
            if body:
                time.sleep(4)
            return 200, {}, b""

        self.server.answers[f"/live/@connections/{name}"] = answer

    def got(self, name: str) -> list[Json]:
        """What was sent to a connection."""
        return [json.loads(body) for path, body in self.server.seen if path.endswith(f"/{name}") and body]

    def was_closed(self, name: str) -> bool:
        return any(path.endswith(f"/{name}") and not body for path, body in self.server.seen)

    @property
    def forgotten(self) -> set[str]:
        """The ids of the connections that were deleted."""
        return {
            member["Delete"]["Key"]["id"]["S"].removeprefix("connection#")
            for name, body in self.server.seen
            if name == TRANSACT
            for member in json.loads(body)["TransactItems"]
            if "Delete" in member
        }


@pytest.fixture
def sockets(cloud: Loopback, environment: pytest.MonkeyPatch) -> Sockets:
    environment.setenv("WEBSOCKET_URL", cloud.url.replace("http", "ws") + "/live")
    aws.sockets.cache_clear()
    return Sockets(cloud)


# What is sent


def test_a_change_is_told_to_every_connection_of_the_account(sockets: Sockets) -> None:
    sockets.has(connection("one"), connection("two"))

    realtime.push(job(seq=3), job(seq=4, status="storing"))

    (told,) = sockets.got("one")
    assert sockets.got("two") == [told]
    assert (told["type"], told["seq"], told["job"]["id"], told["job"]["status"]) == (
        "job.updated",
        4,
        job().id,
        "storing",
    )
    assert sockets.forgotten == set()


@pytest.mark.parametrize(("old", "new"), [(job(seq=2), job(seq=2)), (job(seq=2), None), (None, None)])
def test_what_changes_nothing_of_a_job_is_not_even_looked_into(sockets: Sockets, old: Any, new: Any) -> None:
    sockets.has(connection("one"))

    realtime.push(old, new)

    assert sockets.server.seen == []


def test_an_account_without_connections_costs_one_read(sockets: Sockets) -> None:
    realtime.push(None, job())

    assert [name for name, _ in sockets.server.seen] == [GET]


def test_a_message_has_what_the_api_has_of_a_job(sockets: Sockets) -> None:
    told = json.loads(realtime.update(job(status="succeeded", assets=(ASSET,), metadata={"order": "4711"})))

    assert told["job"]["metadata"] == {"order": "4711"}
    (asset,) = told["job"]["assets"]
    assert "X-Amz-Signature=" in asset["url"]
    assert "provider_key" not in told["job"]


@given(key=st.characters(exclude_categories=["Cs"]), value=st.characters(exclude_categories=["Cs"]))
def test_no_message_is_larger_than_a_frame(key: str, value: str) -> None:
    pairs = {f"{number:02}{key * 62}": value * 500 for number in range(MOST_METADATA)}

    text = realtime.update(job(metadata=pairs))

    assert len(text.encode()) < 32_000
    assert json.loads(text)["job"]["metadata"] in (pairs, None)


@given(st.lists(st.integers(0, 500), max_size=60))
def test_a_sync_has_every_job_once_and_no_message_that_is_too_large(sizes: list[int]) -> None:
    jobs = [
        job(id=f"job_{number:026}", seq=number, metadata={f"{key}": "x" * size for key in range(MOST_METADATA)})
        for number, size in enumerate(sizes)
    ]

    texts = list(realtime.states(jobs))

    pages = [json.loads(text) for text in texts]
    assert [state["job"]["id"] for page in pages for state in page["jobs"]] == [each.id for each in jobs]
    assert [state["seq"] for page in pages for state in page["jobs"]] == list(range(len(jobs)))
    assert [page["last"] for page in pages] == [False] * (len(pages) - 1) + [True]
    assert all(len(text.encode()) < 32_000 for text in texts)


# Who does not take it


def test_a_connection_that_hangs_costs_a_second_once_and_the_others_nothing(sockets: Sockets) -> None:
    sockets.has(connection("slow"), connection("quick"))
    sockets.hangs("slow")

    begun = time.monotonic()
    realtime.push(None, job())
    took = time.monotonic() - begun

    assert took < 3
    assert len(sockets.got("quick")) == 1
    assert sockets.forgotten == {"slow"}


@pytest.mark.parametrize(
    ("status", "error"), [(429, "LimitExceededException"), (500, "InternalServerError"), (403, "ForbiddenException")]
)
def test_a_connection_that_misses_a_change_is_closed_so_that_its_client_knows(
    sockets: Sockets, status: int, error: str
) -> None:
    sockets.has(connection("one"), connection("two"))
    sockets.fails("one", status, error)

    realtime.push(None, job())

    assert sockets.forgotten == {"one"}
    assert sockets.was_closed("one")
    assert not sockets.was_closed("two")


def test_a_connection_that_is_gone_is_forgotten(sockets: Sockets) -> None:
    sockets.has(connection("one"))
    sockets.fails("one", 410, "GoneException")

    realtime.push(None, job())

    assert sockets.forgotten == {"one"}


def test_a_connection_that_is_only_just_opening_is_kept(sockets: Sockets) -> None:
    sockets.has(connection("one", opened_at=time.time() - 1))
    sockets.fails("one", 410, "GoneException")

    realtime.push(None, job())

    assert sockets.forgotten == set()


# Whose credential is no longer good


@pytest.mark.parametrize(
    ("changes", "access"),
    [
        ({}, {"jti#alice#jti-1": {}}),
        ({}, {"account#alice": {"tokens_valid_after": LATER}}),
        # It was asked for just after the revocation, so perhaps with what was revoked.
        ({"asked_at": BEFORE}, {"account#alice": {"tokens_valid_after": BEFORE - standing.MAX_AGE_S + 1}}),
        ({"ends_at": time.time() - 1}, {}),
        ({"is_key": True, "credential": "k"}, {}),
        ({"is_key": True, "credential": "k"}, {"key#k": {"expires_at": int(time.time()) - 1, "hash": "x"}}),
        ({"is_key": True, "credential": "k"}, {"key#k": {"expires_at": int(time.time()) + 600, "deleted_at": "x"}}),
        (
            {"is_key": True, "credential": "k"},
            {
                "key#k": {"expires_at": int(time.time()) + 600, "hash": "x"},
                "account#alice": {"tokens_valid_after": LATER},
            },
        ),
    ],
)
def test_a_connection_whose_credential_is_not_good_hears_nothing_and_is_closed(
    sockets: Sockets, changes: Json, access: Json
) -> None:
    sockets.has(connection("one", **changes))
    sockets.access |= {name: {"id": name, **values} for name, values in access.items()}

    realtime.push(None, job())

    assert sockets.got("one") == []
    assert sockets.forgotten == {"one"}
    assert sockets.was_closed("one")


def test_a_key_that_holds_keeps_its_connection(sockets: Sockets) -> None:
    sockets.has(connection("one", is_key=True, credential="k"))
    sockets.access = {
        "key#k": {"id": "key#k", "expires_at": int(time.time()) + 600, "hash": "x"},
        "account#alice": {"id": "account#alice", "tokens_valid_after": time.time() - 3600},
    }

    realtime.push(None, job())

    assert len(sockets.got("one")) == 1


# Tickets

HOLDER = Holder("alice", "jti-1", False, asked_at=1_800_000_000.5, ends_at=1_800_003_600)


def test_a_ticket_is_kept_as_a_hash_and_a_salt(sockets: Sockets) -> None:
    ticket = connections.issue(HOLDER, idempotency_key=None)

    assert TICKET.fullmatch(ticket.text)
    ((_, asked),) = sockets.server.seen
    assert ticket.text.rpartition("_")[2] not in asked.decode()
    assert ticket.expires_at == 1_800_000_060
    assert connections.issue(HOLDER, idempotency_key=None).text != ticket.text


def test_two_accounts_with_one_idempotency_key_have_two_tickets(sockets: Sockets) -> None:
    mine = connections.issue(HOLDER, idempotency_key="k")
    yours = connections.issue(replace(HOLDER, account="bob"), idempotency_key="k")

    assert mine.text.rpartition("_")[0] != yours.text.rpartition("_")[0]


def test_the_ticket_of_a_key_that_is_used_again_later_is_another(sockets: Sockets) -> None:
    first, later = (connections.issue(HOLDER, idempotency_key="k") for _ in range(2))

    assert first.text.rpartition("_")[0] == later.text.rpartition("_")[0]
    assert first.text != later.text


@pytest.mark.parametrize("text", ["", "x", "ticket_", "ticket_" + "0" * 26, "ticket_" + "0" * 26 + "_" + "g" * 64])
def test_what_is_not_spelled_like_a_ticket_is_not_even_looked_up(sockets: Sockets, text: str) -> None:
    with pytest.raises(Unauthorized):
        realtime.admit("one", text, "203.0.113.7")

    assert GET not in [name for name, _ in sockets.server.seen]


def put_ticket(sockets: Sockets, **changes: Any) -> str:
    ticket = connections.issue(replace(HOLDER, asked_at=time.time(), ends_at=time.time() + 600), idempotency_key=None)
    (name, asked), *_ = sockets.server.seen
    assert name == UPDATE
    values = dynamo.plain(json.loads(asked)["ExpressionAttributeValues"])
    item = {"holder": values[":holder"], "hash": values[":hash"], "expires_at": values[":expires"], **changes}
    key = f"ticket#{ticket.text.rpartition('_')[0]}"
    sockets.items[key] = {"id": key, **item}
    return ticket.text


def test_a_good_ticket_is_spent_and_its_connection_recorded_in_one_transaction(sockets: Sockets) -> None:
    text = put_ticket(sockets)

    realtime.admit("one", text, "203.0.113.7")

    ((_, asked),) = [(name, body) for name, body in sockets.server.seen if name == TRANSACT]
    spend, record, enter = json.loads(asked)["TransactItems"]
    assert "spent_at" in spend["Update"]["UpdateExpression"]
    assert record["Put"]["Item"]["id"]["S"] == "connection#one"
    assert enter["Put"]["Item"]["id"]["S"] == "account#alice"


@pytest.mark.parametrize("changes", [{"spent_at": 1}, {"expires_at": int(time.time()) - 1}, {"hash": "0" * 64}])
def test_a_ticket_that_is_not_good_any_more_is_refused(sockets: Sockets, changes: Json) -> None:
    text = put_ticket(sockets, **changes)

    with pytest.raises(Unauthorized):
        realtime.admit("one", text, "203.0.113.7")

    assert TRANSACT not in [name for name, _ in sockets.server.seen]


def test_the_ticket_of_a_token_that_was_revoked_since_is_refused(sockets: Sockets) -> None:
    text = put_ticket(sockets)
    sockets.access = {"jti#alice#jti-1": {"id": "jti#alice#jti-1"}}

    with pytest.raises(Unauthorized):
        realtime.admit("one", text, "203.0.113.7")


def test_an_address_that_comes_too_often_is_told_to_wait(sockets: Sockets) -> None:
    text = put_ticket(sockets)
    body = json.dumps({"__type": "ConditionalCheckFailedException", "Item": {"tat": {"N": str(2**62)}}}).encode()
    sockets.server.answers[UPDATE] = lambda _: (400, {}, body)

    with pytest.raises(RateLimited):
        realtime.admit("one", text, "203.0.113.7")


@given(st.lists(st.tuples(st.floats(0, 1000), st.booleans()), max_size=30))
def test_there_is_always_room_for_one_more_and_the_oldest_go_first(told: list[tuple[float, bool]]) -> None:
    known = [
        connection(str(number), opened_at=opened, ends_at=500 if ended else 5000)
        for number, (opened, ended) in enumerate(told)
    ]

    lost = connections._surplus(known, 1000)

    kept = [each for each in known if each not in lost]
    assert len(kept) < MOST
    assert all(each.ends_at > 1000 for each in kept)
    living_lost = [each.opened_at for each in lost if each.ends_at > 1000]
    assert max(living_lost, default=0) <= min((each.opened_at for each in kept), default=1000)
    assert not living_lost or len(kept) == MOST - 1


# The functions


def answered(sockets: Sockets, body: str) -> list[Json]:
    event = load("realtime/message.json")
    name = event["requestContext"]["connectionId"].replace("=", "")
    event["requestContext"]["connectionId"] = name
    sockets.has(connection(name))
    assert message.handler({**event, "body": body}, Context()) == {"statusCode": 200}  # type: ignore[arg-type]
    return sockets.got(name)


def test_a_ping_is_answered(sockets: Sockets) -> None:
    assert answered(sockets, '{"action": "ping"}') == [{"type": "pong"}]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("", "malformed_json"),
        ("hello", "malformed_json"),
        ("[" * 999, "malformed_json"),
        ("\ud800", "malformed_json"),
        ("null", "unknown_action"),
        ('{"action": {}}', "unknown_action"),
        ('{"action": "PING"}', "unknown_action"),
        (" " * 1001, "too_large"),
        ("é" * 501, "too_large"),
    ],
)
def test_what_is_not_understood_is_answered(sockets: Sockets, body: str, code: str) -> None:
    (told,) = answered(sockets, body)

    assert (told["type"], told["code"]) == ("error", code)


def test_a_message_that_cannot_be_answered_is_logged_and_its_client_told(sockets: Sockets, log: io.StringIO) -> None:
    sockets.server.says("DynamoDB_20120810.Query", {"__type": "ValidationException", "message": "no"}, status=400)

    (told,) = answered(sockets, '{"action": "sync"}')

    assert (told["type"], told["code"]) == ("error", "internal_error")
    assert "message failed" in log.getvalue()


def test_a_message_of_a_connection_that_we_do_not_know_closes_it(sockets: Sockets) -> None:
    event = load("realtime/message.json")
    event["requestContext"]["connectionId"] = "stranger"
    sockets.server.says("/live/@connections/stranger", {})

    message.handler(event, Context())  # type: ignore[arg-type]

    assert sockets.was_closed("stranger")
    assert sockets.got("stranger") == []


def test_a_refused_connection_is_answered_with_its_status(sockets: Sockets) -> None:
    assert connect.handler(load("realtime/connect.json"), Context()) == {"statusCode": 401}  # type: ignore[arg-type]


def test_a_connection_without_any_parameter_is_refused(sockets: Sockets) -> None:
    event = {**load("realtime/connect.json"), "queryStringParameters": None}

    assert connect.handler(event, Context()) == {"statusCode": 401}  # type: ignore[arg-type]


def test_the_log_has_no_ticket(sockets: Sockets, log: io.StringIO) -> None:
    text = put_ticket(sockets)
    event = {**load("realtime/connect.json"), "queryStringParameters": {"ticket": text}}

    assert connect.handler(event, Context()) == {"statusCode": 200}  # type: ignore[arg-type]

    assert "connected" in log.getvalue()
    assert text.rpartition("_")[2] not in log.getvalue()


def test_a_connection_that_was_closed_is_forgotten(sockets: Sockets) -> None:
    event = load("realtime/disconnect.json")
    sockets.has(connection(event["requestContext"]["connectionId"]))

    disconnect.handler(event, Context())  # type: ignore[arg-type]

    assert sockets.forgotten == {event["requestContext"]["connectionId"]}


def test_a_message_that_calls_itself_disconnect_forgets_nothing(sockets: Sockets) -> None:
    event = load("realtime/disconnect.json")
    event["requestContext"]["eventType"] = "MESSAGE"
    sockets.has(connection(event["requestContext"]["connectionId"]))

    disconnect.handler(event, Context())  # type: ignore[arg-type]

    assert sockets.forgotten == set()


# The stream


def test_a_change_of_the_stream_reaches_the_connections(sockets: Sockets) -> None:
    sockets.has(connection("one"))
    sockets.server.says("AmazonSQS.SendMessage", {"MessageId": "1"})
    event = load("events/announce.json")
    event["Records"][0]["dynamodb"]["OldImage"]["seq"] = {"N": "5"}
    event["Records"][0]["dynamodb"]["NewImage"]["seq"] = {"N": "6"}

    assert announce.handler(event, Context()) == {"batchItemFailures": []}  # type: ignore[arg-type]

    (told,) = sockets.got("one")
    assert (told["seq"], told["job"]["status"]) == (6, "succeeded")


def test_connections_that_cannot_be_read_do_not_stop_a_callback_and_the_record_comes_again(sockets: Sockets) -> None:
    event = load("events/announce.json")
    event["Records"][0]["dynamodb"]["NewImage"]["seq"] = {"N": "6"}
    event["Records"][0]["dynamodb"]["NewImage"]["callback_url"] = {"S": "https://studio.example.com/"}
    sockets.server.says(GET, {"__type": "ValidationException", "message": "no"}, status=400)
    sockets.server.says("AmazonSQS.SendMessage", {"MessageId": "1"})

    with pytest.raises(Exception, match="ValidationException"):
        announce.handler(event, Context())  # type: ignore[arg-type]

    assert "AmazonSQS.SendMessage" in [name for name, _ in sockets.server.seen]
