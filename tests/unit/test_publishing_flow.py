"""A publication from request to end, step by step: our code, the simulated Postiz, and a DynamoDB that is the
emulator's own, called in this process."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from botocore.exceptions import ClientError

from local.simulator.app import Settings, create_app
from local.simulator.server import serving
from shared.core import dynamo
from shared.core.clock import iso
from shared.core.dynamo import Refused
from shared.core.errors import Conflict, Invalid
from shared.core.settings import settings
from shared.media import library
from shared.media.assets import Asset
from shared.publishing import accept, publish, sweep, table
from shared.publishing.accept import PublicationRequest
from shared.publishing.steps import Step
from shared.publishing.table import Publication
from tests.unit.helpers import ENVIRONMENT, Json, Loopback
from tests.unit.tables import emulated, having

FILE = b"\xff\xd8\xff" + bytes(range(256)) * 9000
ASSET = Asset(
    id="as_1",
    account="alice",
    job_id="job_1",
    kind="image",
    content_type="image/jpeg",
    key="assets/as_1.jpg",
    bytes=len(FILE),
    sha256="0" * 64,
    created_at="2026-10-01T10:00:00.000Z",
)
TRANSACT = "DynamoDB_20120810.TransactWriteItems"
STEPS: dict[str, Callable[[Publication], Step]] = {
    "upload": publish.upload,
    "submit": publish.submit,
    "follow": publish.follow,
}


@pytest.fixture(scope="module")
def simulator() -> Iterator[str]:
    with serving(create_app(Settings())) as origin:
        yield origin


@pytest.fixture
def postiz(cloud: Loopback, simulator: str, environment: pytest.MonkeyPatch) -> Iterator[str]:
    """A part of the text of every post of this test; AWS and Postiz are there."""
    environment.setenv("POSTIZ_BASE_URL", f"{simulator}/postiz/public/v1")
    environment.setenv("TIME_SCALE", "0.01")
    environment.setenv("LOOKUP_GRACE", "0.3")
    cloud.keeps_secrets({"atelier/postiz": json.dumps({"api_keys": ["postiz_test"]})})
    cloud.keeps_objects(ENVIRONMENT["MEDIA_BUCKET"])[ASSET.key] = FILE
    cloud.says("AWSStepFunctions.StartExecution", {"executionArn": "arn", "startDate": 1.0})
    emulated(cloud)
    tables = (("PublicationsTable", "PUBLICATIONS_TABLE"), ("AssetsTable", "ASSETS_TABLE"))
    with having(environment, *tables[0]), having(environment, *tables[1]) as asset_table:
        dynamo.save(asset_table, ASSET.item())
        settings.cache_clear()
        yield f"the lighthouse {uuid4().hex[:8]}"


def request(text: str, **more: Any) -> PublicationRequest:
    return PublicationRequest.model_validate({"text": text, "channels": [{"id": "int-x"}], **more})


def publish_now(text: str, **more: Any) -> Publication:
    key = more.pop("key", None)
    return accept.accept("alice", ASSET, request(text, **more), idempotency_key=key, now=time.time()).publication


def later(seconds: float) -> str:
    return iso(time.time() + seconds)


def run(
    publication: Publication, *, until: Callable[[Publication], bool] = lambda one: one.terminal, limit: float = 60
) -> Publication:
    """Go from step to step as the workflow does, only faster than it waits."""
    step, give_up = Step("upload"), time.monotonic() + limit
    while not until(now := current(publication)):
        assert time.monotonic() < give_up, f"still {now.status} after {limit} s: {step}"
        assert step.next != "done" or now.terminal
        if step.next.endswith("_again"):
            time.sleep(0.1)
        step = STEPS[step.next.removesuffix("_again")](current(publication))
    return now


def current(publication: Publication) -> Publication:
    found = table.get(publication.id)
    assert found is not None
    return found


def at_postiz(simulator: str, text: str) -> Json:
    found: Json = httpx.get(f"{simulator}/_sim/posts", params={"contains": text}).json()
    return found


def posts(simulator: str, text: str) -> list[Json]:
    return list(at_postiz(simulator, text)["posts"])


def test_what_is_published_at_once_ends_with_its_public_url(postiz: str, simulator: str) -> None:
    ended = run(publish_now(postiz))

    (post,) = posts(simulator, postiz)
    (channel,) = ended.channels
    assert (ended.status, channel.state, channel.post_id) == ("published", "published", post["id"])
    assert channel.url == f"https://x.example.com/posts/{post['id']}"
    assert post["publication"] == ended.id


def test_the_file_arrives_whole(postiz: str, simulator: str) -> None:
    ended = run(publish_now(postiz))

    uploads = {one["id"]: one for one in at_postiz(simulator, postiz)["uploads"]}
    assert ended.media is not None
    arrived = uploads[ended.media.id]
    assert (arrived["bytes"], arrived["sha256"]) == (len(FILE), hashlib.sha256(FILE).hexdigest())
    assert (arrived["name"], arrived["content_type"]) == ("as_1.jpg", "image/jpeg")


def test_several_channels_are_created_by_one_request(postiz: str, simulator: str) -> None:
    before = at_postiz(simulator, "")["creates"]

    ended = run(publish_now(postiz, channels=[{"id": "int-x"}, {"id": "int-linkedin"}, {"id": "int-alice"}]))

    assert ended.status == "published"
    assert {post["channel"] for post in posts(simulator, postiz)} == {"int-x", "int-linkedin", "int-alice"}
    assert at_postiz(simulator, "")["creates"] == before + 1


@pytest.mark.parametrize("mode", ["now", "schedule", "draft"])
def test_a_connection_that_drops_after_postiz_has_accepted_makes_exactly_one_post(
    postiz: str, simulator: str, mode: str
) -> None:
    when = {"publish_at": later(2)} if mode == "schedule" else {}

    ended = run(publish_now(f"{postiz} [sim create=drop-after-accept]", mode=mode, **when))

    (post,) = posts(simulator, postiz)
    assert ended.status == ("draft" if mode == "draft" else "published")
    assert ended.channels[0].post_id == post["id"]
    assert ended.attempts == 1


def test_a_post_of_several_that_was_lost_is_not_created_again(postiz: str, simulator: str) -> None:
    ended = run(
        publish_now(f"{postiz} [sim create=drop-after-accept]", channels=[{"id": "int-x"}, {"id": "int-linkedin"}])
    )

    assert sorted(post["channel"] for post in posts(simulator, postiz)) == ["int-linkedin", "int-x"]
    assert {channel.state for channel in ended.channels} == {"published"}


@pytest.mark.parametrize("fault", ["500", "502html", "refuse", "429"])
def test_what_was_not_accepted_is_created_later_and_once(postiz: str, simulator: str, fault: str) -> None:
    ended = run(publish_now(f"{postiz} [sim create={fault} times=2]"))

    assert ended.status == "published"
    assert len(posts(simulator, postiz)) == 1
    assert ended.attempts == 3


def test_the_same_text_published_twice_is_two_posts_even_if_an_answer_is_lost(postiz: str, simulator: str) -> None:
    text = f"{postiz} [sim create=drop-after-accept]"

    first, second = run(publish_now(text)), run(publish_now(text))

    made = {post["id"]: post["publication"] for post in posts(simulator, postiz)}
    assert made == {first.channels[0].post_id: first.id, second.channels[0].post_id: second.id}


def test_a_postiz_that_lists_no_settings_is_asked_by_channel_text_and_time(
    postiz: str, simulator: str, cloud: Loopback
) -> None:
    cloud.keeps_secrets({"atelier/postiz": json.dumps({"api_keys": ["postiz_old"]})})
    text = f"{postiz} [sim create=drop-after-accept]"

    first, second = run(publish_now(text)), run(publish_now(text))

    made = {post["id"]: post["publication"] for post in posts(simulator, postiz)}
    assert made == {first.channels[0].post_id: first.id, second.channels[0].post_id: second.id}


def test_a_crash_after_the_create_call_makes_no_second_post(
    postiz: str, simulator: str, cloud: Loopback, environment: pytest.MonkeyPatch
) -> None:
    publication = publish_now(postiz)
    publish.upload(current(publication))
    transact = cloud.answers[TRANSACT]
    cloud.says(TRANSACT, {"__type": "InternalServerError"}, status=500)
    with pytest.raises(ClientError):
        publish.submit(current(publication))
    cloud.answers[TRANSACT] = transact
    assert current(publication).attempt == "open"
    environment.setattr(publish, "CREATE_LIMIT_S", 0)

    ended = run(publication)

    assert ended.status == "published"
    assert len(posts(simulator, postiz)) == 1


def test_an_attempt_that_may_be_under_way_is_waited_for(postiz: str, simulator: str) -> None:
    publication = publish_now(postiz)
    publish.upload(current(publication))
    table.claim_attempt(current(publication), time.time())

    step = publish.submit(current(publication))

    assert step.next == "submit_again"
    assert publish.CREATE_LIMIT_S - 2 <= step.wait_seconds <= publish.CREATE_LIMIT_S
    assert posts(simulator, postiz) == []


def test_of_two_that_submit_at_once_only_one_calls(postiz: str) -> None:
    publication = publish_now(postiz)
    publish.upload(current(publication))
    seen = current(publication)
    table.claim_attempt(seen, time.time())

    with pytest.raises(Refused):
        table.claim_attempt(seen, time.time())


def test_a_cancel_between_create_and_its_record_loses_no_post(postiz: str, simulator: str) -> None:
    publication = publish_now(postiz, mode="schedule", publish_at=later(600))
    publish.upload(current(publication))
    claimed = table.claim_attempt(current(publication), time.time())
    assert publish.cancel(current(publication)).cancel_requested_at is not None

    publish._attempt(claimed)  # The other process, which has claimed it before.

    known = current(publication)
    assert known.channels[0].post_id == posts(simulator, postiz)[0]["id"]
    publish.follow(known)
    assert current(publication).status == "canceled"
    assert posts(simulator, postiz)[0]["deleted"]


def test_what_the_network_refuses_ends_as_failed(postiz: str) -> None:
    ended = run(publish_now(f"{postiz} [sim outcome=failed]"))

    assert ended.status == "failed"
    assert ended.channels[0].state == "error"
    assert ended.error is not None
    assert ended.error.code == "publishing_failed"


def test_what_postiz_does_not_accept_ends_with_its_words(postiz: str, simulator: str) -> None:
    ended = run(publish_now(f"{postiz} [sim nonsense]"))

    assert (ended.status, ended.error and ended.error.code) == ("failed", "invalid_input")
    assert "unknown directive" in str(ended.channels[0].error)
    assert posts(simulator, postiz) == []


def test_a_scheduled_publication_waits_for_its_time_and_can_be_taken_back(postiz: str, simulator: str) -> None:
    publication = publish_now(postiz, mode="schedule", publish_at=later(3600))
    scheduled = run(publication, until=lambda one: one.status == "scheduled")
    step = publish.follow(scheduled)

    canceled = publish.cancel(current(publication))

    assert 3500 < step.wait_seconds <= 3600
    assert (canceled.status, canceled.channels[0].state) == ("canceled", "canceled")
    assert [post["deleted"] for post in posts(simulator, postiz)] == [True]
    assert publish.cancel(canceled) == canceled
    assert publish.follow(canceled) == Step("done")


def test_an_asset_that_was_deleted_before_it_was_sent_is_not_published(postiz: str, simulator: str) -> None:
    publication = publish_now(postiz)
    library.delete(ASSET, time.time())

    ended = run(publication)

    assert (ended.status, ended.error and ended.error.code) == ("failed", "asset_gone")
    assert posts(simulator, postiz) == []


def test_a_file_that_is_gone_from_the_bucket_ends_the_publication(postiz: str, simulator: str, cloud: Loopback) -> None:
    publication = publish_now(postiz)
    cloud.buckets[ENVIRONMENT["MEDIA_BUCKET"]].clear()

    ended = run(publication)

    assert (ended.status, ended.error and ended.error.code) == ("failed", "asset_gone")
    assert posts(simulator, postiz) == []


@pytest.mark.parametrize(("age", "late"), [(3500, False), (3700, True)])
def test_a_publication_that_is_not_out_an_hour_after_its_time_is_counted(
    postiz: str, environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], age: float, late: bool
) -> None:
    environment.setenv("TIME_SCALE", "1")
    publication = run(publish_now(f"{postiz} [sim outcome=never]"), until=lambda one: one.status == "publishing")
    environment.setattr(publish, "current_time", lambda: publication.publish_at + age)

    publish.follow(publication)

    assert ("PublicationLate" in capsys.readouterr().out) == late


def test_what_is_queued_with_us_is_canceled_without_a_word_to_postiz(postiz: str, simulator: str) -> None:
    publication = publish_now(postiz)

    assert publish.cancel(publication).status == "canceled"
    assert publish.upload(current(publication)) == Step("done")
    assert posts(simulator, postiz) == []


def test_what_is_out_cannot_be_canceled(postiz: str) -> None:
    publication = run(publish_now(f"{postiz} [sim outcome=never]"), until=lambda one: one.status == "publishing")

    with pytest.raises(Conflict):
        publish.cancel(publication)


def test_a_post_that_somebody_has_removed_in_postiz_is_told(postiz: str, simulator: str) -> None:
    publication = publish_now(postiz, mode="schedule", publish_at=later(3600))
    scheduled = run(publication, until=lambda one: one.status == "scheduled")
    httpx.delete(
        f"{simulator}/postiz/public/v1/posts/{scheduled.channels[0].post_id}", headers={"authorization": "postiz_test"}
    )

    publish.follow(scheduled)

    assert current(publication).status == "failed"
    assert "removed" in str(current(publication).channels[0].error)


def test_a_repeat_with_the_same_key_is_the_same_publication(postiz: str) -> None:
    first = publish_now(postiz, key="k")

    assert publish_now(postiz, key="k") == first
    with pytest.raises(Invalid) as refused:
        publish_now(f"{postiz} else", key="k")
    assert refused.value.code == "idempotency_key_reused"


@pytest.mark.parametrize(
    ("channel", "detail"),
    [
        ("int-nobody", "there is no such channel"),
        ("int-bob", "there is no such channel"),
        ("int-off", "the channel must be connected again in Postiz"),
    ],
)
def test_a_channel_that_is_not_the_accounts_cannot_be_used(postiz: str, channel: str, detail: str) -> None:
    with pytest.raises(Invalid) as refused:
        publish_now(postiz, channels=[{"id": "int-x"}, {"id": channel}])

    assert refused.value.errors == [{"pointer": "/channels/1/id", "detail": detail}]


@pytest.mark.parametrize("seconds", [-5, 181 * 24 * 3600])
def test_a_time_that_is_past_or_too_far_is_refused(postiz: str, seconds: float) -> None:
    with pytest.raises(Invalid) as refused:
        publish_now(postiz, mode="schedule", publish_at=later(seconds))

    assert [flaw["pointer"] for flaw in refused.value.errors] == ["/publish_at"]


def test_postiz_that_takes_nothing_is_given_up_in_time(postiz: str, environment: pytest.MonkeyPatch) -> None:
    environment.setattr(accept, "GIVE_UP_AFTER_S", 100)

    ended = run(publish_now(f"{postiz} [sim create=429]"))

    assert (ended.status, ended.error and ended.error.code) == ("failed", "provider_unavailable")


def test_the_sweeper_takes_up_what_nobody_works_on_where_it_was_left(postiz: str, cloud: Loopback) -> None:
    publication = publish_now(postiz)
    publish.upload(current(publication))
    dynamo.update(
        dynamo.change(
            table.settings().publications_table,
            {"id": publication.id},
            "SET sweep_at = :past",
            when="attribute_exists(id)",
            values={"past": 1},
        )
    )
    cloud.says("AWSStepFunctions.DescribeExecution", {"status": "FAILED", "startDate": 1.0})

    assert sweep.sweep(lambda: 100) == 1
    assert sweep.sweep(lambda: 100) == 0

    started = [json.loads(body) for name, body in cloud.seen if name == "AWSStepFunctions.StartExecution"]
    assert [one["name"] for one in started] == [publication.id, f"{publication.id}-1"]
    assert json.loads(started[1]["input"])["next"] == "submit"


def test_a_scheduled_publication_is_out_only_once_its_time_has_come(postiz: str) -> None:
    ended = run(publish_now(postiz, mode="schedule", publish_at=later(2)))

    assert ended.status == "published"
    assert time.time() >= ended.publish_at


def test_an_early_look_up_that_finds_nothing_is_not_believed(
    postiz: str, simulator: str, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("LOOKUP_GRACE", "30")
    publication = publish_now(f"{postiz} [sim create=500 times=1]")
    publish.upload(current(publication))
    publish.submit(current(publication))

    step = publish.submit(current(publication))

    assert step.next == "submit_again"
    assert 28 <= step.wait_seconds <= 30
    assert current(publication).attempts == 1
    assert posts(simulator, postiz) == []


def test_a_post_whose_time_has_come_is_not_deleted_but_followed(postiz: str, simulator: str) -> None:
    publication = publish_now(f"{postiz} [sim delay=30]", mode="schedule", publish_at=later(1))
    scheduled = run(publication, until=lambda one: one.status in ("scheduled", "publishing"))
    canceling = table.request_cancel(scheduled, time.time())
    time.sleep(max(0.0, canceling.publish_at - time.time()))

    publish.follow(canceling)

    assert current(publication).status == "publishing"
    assert [post["deleted"] for post in posts(simulator, postiz)] == [False]
