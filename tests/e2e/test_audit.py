"""The audit as its readers see it: one job's life told whole, by whom it concerns and by nobody else."""

import json
import time
from collections.abc import Callable

import pytest

from local.cloud import Stack
from tests.e2e.helpers import eventually
from tests.support import Json, Studio

PAGES = 20


def audit(studio: Studio, *, token: str | None = None, **query: str | int) -> list[Json]:
    """Everything that is told, oldest first."""
    found: list[Json] = []
    headers = {"authorization": f"Bearer {token}"} if token else {}
    for _ in range(PAGES):
        answer = studio.http.get("/audit", params={"limit": 100, **query}, headers=headers)
        assert answer.status_code == 200, answer.text
        found += answer.json()["items"]
        if answer.json()["next_cursor"] is None:
            return found[::-1]
        query["cursor"] = answer.json()["next_cursor"]
    raise AssertionError("the list has no end")


def whole(studio: Studio, job: Json) -> list[Json]:
    """The job's audit, once its end is in it."""

    def look() -> list[Json] | None:
        found = audit(studio, resource=f"job/{job['id']}")
        ended = {entry["item"] for entry in found if entry["actor"] == "system:workflow"}
        return found if {"entry", "hold"} <= ended and _status(found)[-1] == "succeeded" else None

    return eventually(look, timeout=30, what="the end of the job in the audit")


def _status(entries: list[Json]) -> list[str]:
    """What the job's status was said to become."""
    changes = [entry["changes"].get("status") for entry in entries if entry["item"] == "job"]
    return [change["after"] for change in changes if change]


def test_the_life_of_a_job_is_told_whole_with_everybody_who_had_a_part_in_it(studio: Studio) -> None:
    job = studio.run("a lighthouse")

    told = whole(studio, job)

    assert _status(told) == ["submitting", "processing", "storing", "succeeded"]
    assert next(entry["action"] for entry in told if entry["item"] == "job") == "created"
    actors = [entry["actor"] for entry in told]
    assert set(actors) == {studio.account, "webhook:replicate", "system:workflow"}
    assert {entry["actor"] for entry in told if "result" in entry["changes"]} == {"webhook:replicate"}
    (held, captured) = [entry for entry in told if entry["item"] == "hold"]
    assert (held["action"], held["actor"]) == ("created", studio.account)
    assert captured["changes"]["state"] == {"before": "open", "after": "captured"}
    moved = [
        (entry["changes"]["type"]["after"], entry["changes"]["amount"]["after"])
        for entry in told
        if entry["item"] == "entry"
    ]
    assert moved[:2] == [("hold", job["credits"]["held"]), ("capture", job["credits"]["charged"])]
    for entry in told:
        assert entry["account"] == studio.account
        assert (entry["address"] is not None) == (entry["actor"] == studio.account)


def test_what_the_request_and_the_workflow_changed_carries_the_requests_id(studio: Studio) -> None:
    answer = studio.http.post("/images", json={"prompt": "a herring"})
    studio.wait(answer.json()["id"])

    told = whole(studio, answer.json())

    ids = {entry["actor"]: entry["request_id"] for entry in told}
    assert ids[studio.account] == ids["system:workflow"] == answer.headers["x-request-id"]
    assert ids["webhook:replicate"] not in (None, answer.headers["x-request-id"])


def test_what_came_with_an_api_key_is_told_with_the_key(studio: Studio) -> None:
    key = studio.http.post("/api-keys", json={"name": "server", "scopes": ["studio"]}).json()
    headers = {"authorization": f"Bearer {key['key']}"}
    job = studio.http.post("/images", json={"prompt": "a herring"}, headers=headers).json()
    studio.wait(job["id"])

    told = whole(studio, job)

    assert (told[0]["actor"], told[0]["address"]) == (f"{studio.account}/{key['id']}", "127.0.0.1")


def test_a_grant_is_told_with_the_administrator_and_to_administrators_from_where(
    stack: Stack, new_studio: Callable[..., Studio]
) -> None:
    studio = new_studio(credits=70)

    def granted(**token: str) -> Json | None:
        found = audit(studio, account=studio.account, **token)
        return next((entry for entry in found if entry["item"] == "entry"), None)

    own = eventually(granted, timeout=30, what="the grant in the audit")
    seen = granted(token=stack.tokens["admin"])

    assert (own["actor"], own["address"]) == ("admin", None)
    assert own["changes"]["amount"]["after"] == 70
    assert seen is not None
    assert (seen["id"], seen["actor"], seen["address"]) == (own["id"], "admin", "127.0.0.1")
    assert seen["resource"] == f"credits/{studio.account}"


def test_a_second_account_sees_nothing_of_it(studio: Studio, new_studio: Callable[..., Studio]) -> None:
    job = studio.run("a lighthouse")
    whole(studio, job)
    page = studio.http.get("/audit", params={"limit": 1}).json()
    other = new_studio(credits=0)

    for query in (
        {},
        {"resource": f"job/{job['id']}"},
        {"resource": f"asset/{job['assets'][0]['id']}"},
        {"resource": f"credits/{studio.account}"},
        {"cursor": page["next_cursor"]},
    ):
        assert audit(other, **query) == []
    refused = other.http.get("/audit", params={"account": studio.account})
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")


def test_an_administrator_sees_all_accounts_in_one_list(stack: Stack, new_studio: Callable[..., Studio]) -> None:
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 1))
    accounts = {new_studio().account for _ in range(3)}
    reader = new_studio(credits=0)
    admin = stack.tokens["admin"]

    def look() -> list[Json] | None:
        found = audit(reader, token=admin, since=since)
        return found if accounts <= {entry["account"] for entry in found} else None

    found = eventually(look, timeout=30, what="three accounts in the audit of all")
    assert [entry["at"] for entry in found] == sorted(entry["at"] for entry in found)
    assert len({entry["id"] for entry in found}) == len(found)
    one = sorted(accounts)[0]
    assert {entry["account"] for entry in audit(reader, token=admin, account=one)} == {one}


def test_pages_follow_one_another_without_a_gap_or_a_repeat(studio: Studio) -> None:
    whole(studio, studio.run("a lighthouse"))
    everything = [entry["id"] for entry in audit(studio)[::-1]]

    found, cursor = [], None
    for _ in everything:
        page = studio.http.get("/audit", params={"limit": 3, **({"cursor": cursor} if cursor else {})}).json()
        found += [entry["id"] for entry in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert found == everything


def test_times_are_bounds(studio: Studio) -> None:
    job = studio.run("a lighthouse")
    first, *_, last = whole(studio, job)
    resource = f"job/{job['id']}"

    assert audit(studio, resource=resource, until=first["at"]) == []
    assert audit(studio, resource=resource, since="2200-01-01T00:00:00Z") == []
    since = audit(studio, resource=resource, since=last["at"])
    assert last in since
    assert all(entry["at"] == last["at"] for entry in since)


def test_no_secret_is_anywhere_in_the_audit(stack: Stack, studio: Studio) -> None:
    """Not in what is told, and not in the table behind it."""
    made = studio.http.post("/api-keys", json={"name": "server", "scopes": ["studio"]}).json()
    renewed = studio.http.post(f"/api-keys/{made['id']}/rotate", json={"overlap_seconds": 60}).json()
    callback = studio.http.post("/callbacks/secret/rotate").json()
    job = studio.run(
        "my key is sk-abcdefgh12345678abcdefgh", callback_url=f"{stack.simulator_url}/_sim/callbacks/a?t=5ecre7"
    )
    whole(studio, job)
    keys = eventually(
        lambda: audit(studio, resource=f"api_key/{renewed['id']}"), timeout=30, what="the key in the audit"
    )
    assert (keys[0]["action"], keys[0]["actor"], keys[0]["address"]) == ("created", studio.account, "127.0.0.1")
    assert "access" in {entry["item"] for entry in audit(studio, resource=f"access/{studio.account}")}
    secrets = stack.client("secretsmanager")
    # Other tests have made some that have no value yet.
    names = [found["Name"] for found in secrets.list_secrets()["SecretList"]]
    values = [value for name in names if (value := secrets.get_secret_value(SecretId=name).get("SecretString"))]
    words = {word for value in values for word in _words(value)} | {*stack.tokens.values()}
    words |= {"sk-abcdefgh12345678", "X-Amz-Signature", "5ecre7", made["key"], renewed["key"], callback["secret"]}

    pages = stack.client("dynamodb").get_paginator("scan").paginate(TableName=stack.tables["audit"])
    text = json.dumps([item for page in pages for item in page["Items"]])

    assert "task_token" in text
    assert len(words) > 8
    assert [word for word in words if word in text] == []


def _words(secret: str) -> list[str]:
    """Every text of a secret, which may be JSON."""
    try:
        found = json.loads(secret)
    except ValueError:
        return [secret]
    values = found.values() if isinstance(found, dict) else [found]
    texts = [text for value in values for text in (value if isinstance(value, list) else [value])]
    return [text for text in texts if isinstance(text, str) and len(text) > 8]


def test_jobs_do_not_grow_by_what_the_audit_needs(studio: Studio) -> None:
    """Who wrote last stands on the item: a few dozen bytes, and never in what a caller gets."""
    job = studio.run("a lighthouse")

    client = studio.stack.client("dynamodb")
    item = client.get_item(TableName=studio.stack.tables["jobs"], Key={"id": {"S": job["id"]}})["Item"]
    by = {name: value["S"] for name, value in item["changed_by"]["M"].items()}

    assert by.keys() <= {"actor", "address", "request_id", "at"}
    assert sum(len(name) + len(value) for name, value in by.items()) < 300
    assert "changed_by" not in json.dumps(
        [job, studio.job(job["id"]), studio.http.get("/jobs").json(), studio.entries()]
    )


@pytest.mark.parametrize("query", [{"resource": "x"}, {"since": "today"}, {"limit": "0"}, {"cursor": "AAAA"}])
def test_a_question_that_makes_no_sense_is_refused(studio: Studio, query: dict[str, str]) -> None:
    assert studio.http.get("/audit", params=query).status_code in (400, 422)
