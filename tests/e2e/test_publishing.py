"""From an asset to a post and back, through the deployed functions and the simulated Postiz."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from uuid import uuid4

import pytest

from local.cloud import Stack
from shared.core.clock import iso
from tests.e2e.helpers import at_once, check_problem, eventually, moment, pointers
from tests.e2e.publishing import (
    at_postiz,
    change,
    ended,
    execution_arn,
    imported,
    make_due,
    posts,
    published,
    request,
    row,
    sweep,
)
from tests.e2e.uploading import in_library
from tests.support import Json, Studio, rows

SOON_S = (5, 20, 60)
"""How far ahead something is scheduled; the next is tried where the request took longer than that."""


@dataclass(frozen=True)
class Case:
    """What befalls a publication, and how it must end: status, error code, and how many posts there are then."""

    words: str = ""
    mode: str = "now"
    channels: tuple[str, ...] = ("int-x",)
    status: str = "published"
    code: str | None = None
    posts: int = 1


CASES = {
    "now": Case(),
    "schedule": Case(mode="schedule"),
    "draft": Case(mode="draft", status="draft"),
    "several": Case(channels=("int-x", "int-linkedin"), posts=2),
    "lost": Case("create=drop-after-accept"),
    "lost-schedule": Case("create=drop-after-accept", mode="schedule"),
    "lost-draft": Case("create=drop-after-accept", mode="draft", status="draft"),
    "lost-several": Case("create=drop-after-accept", channels=("int-x", "int-linkedin"), posts=2),
    "throttled": Case("create=429 times=2"),
    "throttled-bare": Case("create=429bare times=1"),
    "500": Case("create=500 times=1"),
    "502": Case("create=502html times=1"),
    "refused": Case("create=refuse times=1"),
    "hanging": Case("create=hang times=1"),
    "slow": Case("delay=2"),
    "rejected": Case("outcome=failed", status="failed", code="publishing_failed"),
    "not-understood": Case("nonsense", status="failed", code="invalid_input", posts=0),
}


@dataclass
class Published:
    """One account has published everything at once; `made` is what it was answered."""

    studio: Studio
    asset: Json
    texts: dict[str, str]
    made: dict[str, Json] = field(default_factory=dict)


@pytest.fixture(scope="module")
def everything(stack: Stack) -> Iterator[Published]:
    studio = Studio(stack, f"test-{uuid4().hex[:12]}")
    asset = imported(studio)
    texts = {name: f"{name} {uuid4().hex[:8]}" for name in CASES}

    def start(name: str) -> Json:
        case = CASES[name]
        text = f"{texts[name]} [sim {case.words}]" if case.words else texts[name]
        if case.mode != "schedule":
            return published(studio, asset, request(text, *case.channels, mode=case.mode))
        return _scheduled_soon(studio, asset, text)

    # What is for soon must not wait for a function that begins to run.
    assert studio.http.get("/channels").status_code == 200
    made = at_once([partial(start, name) for name in CASES], workers=2)
    yield Published(studio, asset, texts, dict(zip(CASES, made, strict=True)))
    studio.close()


def _scheduled_soon(studio: Studio, asset: Json, text: str) -> Json:
    for ahead in SOON_S:
        body = request(text, mode="schedule", publish_at=iso(time.time() + ahead))
        answer = studio.http.post(f"/assets/{asset['id']}/publications", json=body)
        if answer.status_code == 202:
            return dict(answer.json())
        assert pointers(answer) == {"/publish_at"}
    raise AssertionError(f"a request took longer than {ahead} s")


@pytest.mark.parametrize("name", CASES)
def test_a_publication_ends_as_it_must_with_exactly_the_posts_that_were_asked_for(
    everything: Published, name: str
) -> None:
    case, made = CASES[name], everything.made[name]
    assert (made["status"], made["mode"], made["asset_id"]) == ("queued", case.mode, everything.asset["id"])

    found = ended(everything.studio, made)

    there = posts(everything.studio.stack, everything.texts[name])
    assert (found["status"], found["error"] and found["error"]["code"]) == (case.status, case.code)
    assert sorted(post["channel"] for post in there) == sorted(case.channels)[: case.posts]
    assert {post["publication"] for post in there} <= {made["id"]}
    urls = {channel["url"] for channel in found["channels"]}
    if case.status == "published":
        assert {url.rpartition("/")[2] for url in urls} == {post["id"] for post in there}
        assert all(url.startswith("https://") for url in urls)
    else:
        assert urls == {None}
    if case.status == "failed":
        assert all(channel["error"] for channel in found["channels"])
    if case.mode == "schedule":
        assert moment(found["updated_at"]) >= moment(found["publish_at"])


def test_the_file_arrives_whole_under_its_name(everything: Published) -> None:
    ended(everything.studio, everything.made["now"])

    uploads = at_postiz(everything.studio.stack, everything.texts["now"])["uploads"]
    arrived = next(one for one in uploads if one["sha256"] == everything.asset["sha256"])
    assert (arrived["bytes"], arrived["content_type"]) == (everything.asset["bytes"], "image/jpeg")
    assert arrived["name"] == f"{everything.asset['id']}.jpg"


def test_publications_are_listed_newest_first_by_pages_asset_and_status(everything: Published) -> None:
    studio = everything.studio
    for made in everything.made.values():
        ended(studio, made)

    found, cursor = [], None
    while True:
        params = {"limit": 5, **({"cursor": cursor} if cursor else {})}
        page = studio.http.get("/publications", params=params).json()
        assert len(page["items"]) <= 5
        found += page["items"]
        if (cursor := page["next_cursor"]) is None:
            break
    assert {one["id"] for one in found} == {made["id"] for made in everything.made.values()}
    assert [one["created_at"] for one in found] == sorted((one["created_at"] for one in found), reverse=True)
    drafts = studio.http.get("/publications", params={"status": "draft", "asset_id": everything.asset["id"]}).json()
    assert {one["id"] for one in drafts["items"]} == {everything.made[name]["id"] for name in ("draft", "lost-draft")}
    assert studio.http.get("/publications", params={"asset_id": "as_other"}).json()["items"] == []


def test_the_life_of_a_publication_is_in_the_audit_with_everybody_who_had_a_part_in_it(everything: Published) -> None:
    made = everything.made["slow"]
    ended(everything.studio, made)

    def told() -> list[Json] | None:
        params: Json = {"resource": f"publication/{made['id']}", "limit": 100}
        found = everything.studio.http.get("/audit", params=params).json()["items"][::-1]
        changes = [entry["changes"]["status"]["after"] for entry in found if "status" in entry["changes"]]
        return found if changes[-1:] == ["published"] else None

    entries = eventually(told, timeout=30, what="end of the publication in the audit")

    statuses = [entry["changes"]["status"]["after"] for entry in entries if "status" in entry["changes"]]
    assert statuses == ["queued", "submitting", "publishing", "published"]
    assert (entries[0]["action"], entries[0]["actor"]) == ("created", everything.studio.account)
    assert {entry["actor"] for entry in entries[1:]} == {"system:workflow"}
    assert len({entry["request_id"] for entry in entries}) == 1


# Taking back


def scheduled(studio: Studio, text: str, asset: Json | None = None) -> Json:
    body = request(text, mode="schedule", publish_at=iso(time.time() + 3600))
    return ended(studio, published(studio, asset or imported(studio), body), {"scheduled"})


def test_a_scheduled_publication_is_taken_back(studio: Studio, text: str) -> None:
    made = scheduled(studio, text)
    (post,) = posts(studio.stack, text)
    assert (post["deleted"], round(post["publish_at"])) == (False, round(moment(made["publish_at"])))

    answers = [studio.http.post(f"/publications/{made['id']}/cancel") for _ in range(2)]

    assert [(answer.status_code, answer.json()["status"]) for answer in answers] == [(200, "canceled")] * 2
    assert answers[0].json()["channels"][0]["state"] == "canceled"
    assert [post["deleted"] for post in posts(studio.stack, text)] == [True]


def test_what_is_on_its_way_out_cannot_be_taken_back_and_what_is_over_is_answered_as_it_is(
    studio: Studio, text: str
) -> None:
    made = published(studio, imported(studio), request(f"{text} [sim delay=3]"))
    ended(studio, made, {"publishing"})

    check_problem(studio.http.post(f"/publications/{made['id']}/cancel"), 409, "already_publishing")

    over = ended(studio, made)
    answer = studio.http.post(f"/publications/{made['id']}/cancel")
    assert (over["status"], answer.status_code, answer.json()) == ("published", 200, over)


def test_a_post_that_somebody_removes_in_postiz_is_told(studio: Studio, text: str) -> None:
    made = scheduled(studio, text)
    (post,) = posts(studio.stack, text)
    url = f"{studio.stack.simulator_url}/postiz/public/v1/posts/{post['id']}"
    studio.http.delete(url, headers={"authorization": "postiz_local"})

    change(studio.stack, made["id"], publish_at=time.time())
    stop(studio.stack, made["id"])
    make_due(studio.stack, made["id"])
    sweep(studio.stack)

    found = ended(studio, made)
    assert (found["status"], found["error"]["code"]) == ("failed", "publishing_failed")
    assert "removed" in found["channels"][0]["error"]


# Nobody works on it


def stop(stack: Stack, name: str) -> None:
    """End an execution, as an operator's mistake or an outage would."""
    stack.client("stepfunctions").stop_execution(executionArn=execution_arn(stack, name))


def test_a_publication_whose_execution_was_stopped_is_taken_up_by_the_sweeper(studio: Studio, text: str) -> None:
    made = published(studio, imported(studio), request(f"{text} [sim delay=3]"))
    ended(studio, made, {"publishing"})
    stop(studio.stack, made["id"])

    make_due(studio.stack, made["id"])
    sweep(studio.stack)

    assert ended(studio, made)["status"] == "published"
    assert len(posts(studio.stack, text)) == 1
    assert row(studio.stack, made["id"])["executions"] == 1


def test_a_publication_that_somebody_works_on_is_left_alone_by_the_sweeper(studio: Studio, text: str) -> None:
    made = scheduled(studio, text)

    make_due(studio.stack, made["id"])
    sweep(studio.stack)

    assert row(studio.stack, made["id"])["executions"] == 0
    assert row(studio.stack, made["id"])["sweep_at"] > time.time()
    assert studio.http.post(f"/publications/{made['id']}/cancel").json()["status"] == "canceled"


def test_postiz_that_takes_nothing_is_given_up_at_the_deadline(studio: Studio, text: str) -> None:
    made = published(studio, imported(studio), request(f"{text} [sim create=429]"))
    ended(studio, made, {"submitting"})

    change(studio.stack, made["id"], give_up_at=time.time())

    found = ended(studio, made)
    assert (found["status"], found["error"]["code"]) == ("failed", "provider_unavailable")
    assert posts(studio.stack, text) == []


def test_a_post_that_never_leaves_the_queue_is_given_up_in_the_end(studio: Studio, text: str) -> None:
    made = published(studio, imported(studio), request(f"{text} [sim outcome=never]"))
    ended(studio, made, {"publishing"})

    change(studio.stack, made["id"], publish_at=time.time() - 4 * 24 * 3600)

    found = ended(studio, made)
    assert (found["status"], found["error"]["code"]) == ("failed", "publishing_failed")
    assert found["error"]["detail"] == "Postiz has not published the post."


# Whose it is


def test_another_account_sees_nothing_and_can_do_nothing(
    studio: Studio, new_studio: Callable[..., Studio], text: str
) -> None:
    other = new_studio()
    asset = imported(studio)
    made = scheduled(studio, text, asset)

    for answer in (
        other.http.get(f"/publications/{made['id']}"),
        other.http.post(f"/publications/{made['id']}/cancel"),
        other.http.post(f"/assets/{asset['id']}/publications", json=request(text)),
    ):
        check_problem(answer, 404, "not_found")
    assert other.http.get("/publications").json() == {"items": [], "next_cursor": None}
    assert other.http.get("/publications", params={"asset_id": asset["id"]}).json()["items"] == []
    assert [post["deleted"] for post in posts(studio.stack, text)] == [False]
    assert studio.http.post(f"/publications/{made['id']}/cancel").json()["status"] == "canceled"


def test_a_channel_that_was_given_to_somebody_is_theirs_alone(studio: Studio, stack: Stack) -> None:
    def channels(token: str) -> dict[str, bool]:
        answer = studio.http.get("/channels", headers={"authorization": f"Bearer {token}"})
        return {channel["id"]: channel["disabled"] for channel in answer.json()["items"]}

    everybodys = {"int-x": False, "int-linkedin": False, "int-off": True}
    assert channels(stack.token(studio.account)) == everybodys
    assert channels(stack.tokens["alice"]) == {**everybodys, "int-alice": False}
    assert channels(stack.tokens["bob"]) == {**everybodys, "int-bob": False}


def test_an_asset_that_was_deleted_cannot_be_published_and_what_was_sent_before_goes_out(
    studio: Studio, text: str
) -> None:
    asset = imported(studio)
    made = published(studio, asset, request(f"{text} [sim delay=2]"))
    ended(studio, made, {"publishing"})

    assert studio.http.delete(f"/assets/{asset['id']}").status_code == 204

    check_problem(studio.http.post(f"/assets/{asset['id']}/publications", json=request(text)), 404, "not_found")
    assert ended(studio, made)["status"] == "published"


def test_an_upload_that_was_published_is_in_use_and_stays(studio: Studio, text: str) -> None:
    asset = in_library(studio, "alpha PNG")
    assert "due_at" in rows(studio.stack, "assets", id=asset["id"])[0]

    made = published(studio, asset, request(text))

    assert "due_at" not in rows(studio.stack, "assets", id=asset["id"])[0]
    assert ended(studio, made)["status"] == "published"


# Asking twice


def test_requests_with_one_idempotency_key_are_one_publication_with_one_post(studio: Studio, text: str) -> None:
    asset, key = imported(studio), uuid4().hex

    def ask() -> tuple[int, str, bool]:
        headers = {"idempotency-key": key}
        answer = studio.http.post(f"/assets/{asset['id']}/publications", json=request(text), headers=headers)
        return answer.status_code, answer.json()["id"], "idempotency-replayed" in answer.headers

    answers = at_once([ask] * 3)
    answers.append(ask())

    assert {status for status, _, _ in answers} == {202}
    (publication_id,) = {found for _, found, _ in answers}
    assert [replayed for _, _, replayed in answers].count(False) == 1
    assert ended(studio, {"id": publication_id})["status"] == "published"
    assert len(posts(studio.stack, text)) == 1
    other = studio.http.post(
        f"/assets/{asset['id']}/publications", json=request(f"{text}!"), headers={"idempotency-key": key}
    )
    check_problem(other, 422, "idempotency_key_reused")


# Requests that are none


@pytest.mark.parametrize(
    ("changes", "flaws"),
    [
        ({"text": ""}, {"/text"}),
        ({"text": "x" * 10_001}, {"/text"}),
        ({"channels": []}, {"/channels"}),
        ({"channels": [{"id": "int-x"}, {"id": "int-x"}]}, {""}),
        ({"channels": [{"id": "int-x"}, {"id": "int-bob"}, {"id": "int-off"}]}, {"/channels/1/id", "/channels/2/id"}),
        ({"channels": [{"id": "int-x", "settings": {"long": "x" * 9000}}]}, {"/channels/0/settings"}),
        ({"mode": "later"}, {"/mode"}),
        ({"mode": "schedule"}, {""}),
        ({"publish_at": "2027-01-01T00:00:00Z"}, {""}),
        ({"mode": "schedule", "publish_at": "tomorrow"}, {"/publish_at"}),
        ({"mode": "schedule", "publish_at": "2020-01-01T00:00:00Z"}, {"/publish_at"}),
        ({"mode": "schedule", "publish_at": "2999-01-01T00:00:00Z"}, {"/publish_at"}),
        ({"colour": "blue"}, {"/colour"}),
    ],
)
def test_a_publication_that_is_none_is_refused_with_what_is_wrong(
    everything: Published, changes: Json, flaws: set[str]
) -> None:
    url = f"/assets/{everything.asset['id']}/publications"

    assert pointers(everything.studio.http.post(url, json={**request("a lighthouse"), **changes})) == flaws


def test_what_no_network_takes_is_refused(studio: Studio) -> None:
    job = studio.wait(studio.post("speech", {"text": "A lighthouse."})["id"])

    answer = studio.http.post(f"/assets/{job['assets'][0]['id']}/publications", json=request("a lighthouse"))

    assert pointers(answer) == {""}


@pytest.mark.parametrize("path", ["/publications/pub_none", "/publications/x"])
def test_what_there_is_not_is_404(studio: Studio, path: str) -> None:
    check_problem(studio.http.get(path), 404, "not_found")
    check_problem(studio.http.post(f"{path}/cancel"), 404, "not_found")
    check_problem(studio.http.post("/assets/as_none/publications", json=request("a lighthouse")), 404, "not_found")


@pytest.fixture
def text() -> str:
    return f"The lighthouse {uuid4().hex[:8]}"
