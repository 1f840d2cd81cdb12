"""The inspection of uploads, struck at every AWS call that it makes: whatever dies there is finished by a repeat, with
the same end and nothing counted twice."""

import io
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import product as pairs
from typing import Any, get_args
from uuid import uuid4

import pytest
from botocore.exceptions import BotoCoreError

from local.cloud import Stack
from shared.core import aws, dynamo
from shared.core.clock import now
from shared.core.dynamo import Item
from shared.core.settings import settings
from shared.media import assets, library, purge
from shared.media.library import Wanted
from shared.media.ranged import Unreachable
from shared.uploads import accept, apart, expire, inspection, receive, table, transfer
from shared.uploads.table import Upload
from tests import corpus
from tests.inside import Effect, Fault, How, Killed, aws_calls, inside

DAY_S = 86400
TIME_S = 300.0
SAMPLE = {"ready": "alpha PNG", "rejected": "a PNG that is called a JPEG"}


@pytest.fixture(scope="module", autouse=True)
def product(stack: Stack) -> Iterator[None]:
    """This process is the deployed function, and decodes by itself, which is faster (tests/unit/test_apart.py has the
    other process). Nobody is told of what comes into the bucket."""
    s3, bucket = stack.client("s3"), stack.buckets["media"]
    told = s3.get_bucket_notification_configuration(Bucket=bucket)
    told.pop("ResponseMetadata")
    with inside(stack, "InspectUploadFunction", TIME_SCALE="1"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(apart, "inspect", decoded_here)
        s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
        try:
            yield
        finally:
            s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=told)


def decoded_here(source: Any, declared: str, time_left: Callable[[], float]) -> inspection.Inspection:
    return inspection.inspect(io.BufferedReader(source), declared, time_left)


@pytest.fixture
def account() -> str:
    return f"inspection-{uuid4().hex[:12]}"


def promise(account: str, sample: str) -> Upload:
    media_type, size = corpus.SAMPLES[sample].media_type, len(corpus.make(sample))
    return accept.accept(account, media_type, size, None, idempotency_key=None, now=now())[0]


def come(account: str, sample: str) -> Upload:
    """An upload whose file is there."""
    upload = promise(account, sample)
    put(upload, corpus.make(sample))
    return upload


def put(upload: Upload, data: bytes) -> None:
    aws.s3().put_object(Bucket=settings().media_bucket, Key=upload.key, Body=data)


def inspect(upload: Upload) -> None:
    receive.receive(upload.key, lambda: TIME_S, now())


def keys(prefix: str) -> set[str]:
    answer = aws.s3().list_objects_v2(Bucket=settings().media_bucket, Prefix=prefix)
    return {found["Key"] for found in answer.get("Contents", [])}


def found(upload: Upload) -> Upload:
    known = table.find(upload.id, account=upload.account)
    assert known is not None
    return known


def shelf(account: str) -> list[assets.Asset]:
    return library.page(account, Wanted(), limit=100, cursor=None)[0]


@dataclass(frozen=True)
class Case:
    """An outcome, and what strikes the call number `call` of the inspection that leads to it."""

    outcome: str
    call: int
    name: str
    effect: Effect
    how: How

    def __str__(self) -> str:
        return f"{self.outcome}-{self.call}-{self.name}-{self.effect}-{self.how}"


# What a calm inspection asks of AWS. (An image is read with one GET, a film with several.)
CALLS = {
    "ready": (
        *("HeadObject", "UpdateItem", "GetObject", "UpdateItem", "HeadObject", "CopyObject", "PutObject"),
        *("TransactWriteItems", "DeleteObject"),
    ),
    "rejected": ("HeadObject", "UpdateItem", "GetObject", "UpdateItem", "DeleteObject"),
}
CASES = [
    Case(outcome, call, name, effect, how)
    for outcome, calls in CALLS.items()
    for (call, name), effect, how in pairs(enumerate(calls), get_args(Effect), get_args(How))
]


@pytest.mark.parametrize("outcome", CALLS)
def test_the_calls_of_a_calm_inspection(account: str, outcome: str) -> None:
    upload = come(account, SAMPLE[outcome])

    with aws_calls() as calls:
        inspect(upload)

    assert tuple(calls.names) == CALLS[outcome]
    check_end(upload, outcome)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_an_inspection_has_not_finished_its_repeat_does(account: str, case: Case) -> None:
    upload = come(account, SAMPLE[case.outcome])

    survived(partial(inspect, upload), Fault(case.call, case.effect, case.how))
    for _ in range(2):
        inspect(upload)

    check_end(upload, case.outcome)


def check_end(upload: Upload, outcome: str) -> None:
    """It is decided; the account has exactly what it should have, and nothing else is left."""
    decided = found(upload)
    assert decided.state == outcome
    assert keys(upload.key) == set()
    own = shelf(upload.account)
    if outcome == "rejected":
        assert (decided.code, own) == ("wrong_type", [])
        assert assets.stored(upload.account) == (0, 0)
        return
    (asset,) = own
    assert asset.id == decided.asset_id
    assert assets.stored(upload.account) == (asset.bytes, 1)
    content = aws.s3().get_object(Bucket=settings().media_bucket, Key=asset.key)["Body"].read()
    assert content == corpus.make(SAMPLE["ready"])
    assert keys(f"assets/{asset.id}") == {asset.key, *asset.previews.values()}


def test_an_asset_of_the_second_try_keeps_its_files_when_the_night_removes_those_of_nobody(account: str) -> None:
    upload = come(account, SAMPLE["ready"])
    survived(partial(inspect, upload), Fault(CALLS["ready"].index("PutObject"), "after", "death"))
    inspect(upload)

    purge.purge(lambda: TIME_S, now() + 2 * DAY_S)

    check_end(upload, "ready")


# How a large file gets in


ACCEPTING = ("GetItem", "GetItem", "TransactWriteItems", "CreateMultipartUpload", "UpdateItem")
COMPLETING = ("ListParts", "CompleteMultipartUpload")


def struck(names: tuple[str, ...]) -> list[Any]:
    """Every fault of every call."""
    return [
        pytest.param(Fault(call, effect, how), id=f"{call}-{name}-{effect}-{how}")
        for (call, name), effect, how in pairs(enumerate(names), get_args(Effect), get_args(How))
    ]


def survived(work: partial[Any], fault: Fault) -> None:
    """The work, with a fault that it need not survive itself."""
    with aws_calls(fault) as calls, suppress(Killed, BotoCoreError, Unreachable):
        work()
    assert calls.tries > 0


@pytest.mark.parametrize("fault", struck(ACCEPTING))
def test_an_announcement_that_died_is_finished_by_its_repeat(account: str, fault: Fault) -> None:
    work = partial(accept.accept, account, "video/mp4", 60_000_000, "x", idempotency_key="once")
    begun = now()

    survived(partial(work, now=begun), fault)
    first, _ = work(now=begun + 1)
    again, replayed = work(now=begun + 2)

    assert (first, replayed) == (again, True)
    assert first.multipart_id is not None
    assert [part.url is not None for part in transfer.parts(first)] == [True] * 4


@pytest.mark.parametrize("fault", struck(COMPLETING))
def test_a_completion_that_died_is_finished_by_its_repeat(account: str, fault: Fault) -> None:
    data = corpus.make(SAMPLE["ready"])
    upload = transfer.begin(promise(account, SAMPLE["ready"]))
    aws.s3().upload_part(
        Bucket=settings().media_bucket, Key=upload.key, UploadId=upload.multipart_id or "", PartNumber=1, Body=data
    )

    survived(partial(transfer.complete, upload), fault)
    transfer.complete(upload)
    assert [part.url for part in transfer.parts(upload)] == [None]
    inspect(upload)

    check_end(upload, "ready")


GIVING_UP = ("UpdateItem", "DeleteItem", "AbortMultipartUpload", "DeleteObject")


@pytest.mark.parametrize("effect", get_args(Effect))
@pytest.mark.parametrize("call", range(len(GIVING_UP)))
def test_what_is_given_up_leaves_nothing_though_an_answer_was_lost(account: str, call: int, effect: Effect) -> None:
    upload = transfer.begin(promise(account, SAMPLE["ready"]))

    with aws_calls(Fault(call, effect, "once")) as calls:
        assert table.remove(upload)
        transfer.discard(upload)

    assert tuple(calls.names) == GIVING_UP
    assert calls.tries == 2
    assert table.find(upload.id, account=account) is None
    bucket = settings().media_bucket
    assert not aws.s3().list_multipart_uploads(Bucket=bucket, Prefix=upload.key).get("Uploads")


# Two at once, on one file


def test_of_two_inspections_of_one_file_the_slower_leaves_the_asset_whole(
    account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slower one has copied everything when the faster one, which began later, is done."""
    upload, record = come(account, SAMPLE["ready"]), assets.record

    def overtaken(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(assets, "record", record)
        inspect(upload)
        return record(*arguments, **options)

    monkeypatch.setattr(assets, "record", overtaken)
    inspect(upload)

    check_end(upload, "ready")


def test_of_two_inspections_without_room_none_leaves_anything(account: str, monkeypatch: pytest.MonkeyPatch) -> None:
    upload, record = come(account, SAMPLE["ready"]), assets.record
    dynamo.save(settings().assets_table, {"id": f"storage#{account}", "bytes": settings().storage_quota, "files": 1})

    def overtaken(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(assets, "record", record)
        inspect(upload)
        return record(*arguments, **options)

    monkeypatch.setattr(assets, "record", overtaken)
    with aws_calls() as calls:
        inspect(upload)

    decided = found(upload)
    assert (decided.state, decided.code) == ("rejected", "quota_exceeded")
    assert calls.names.count("CopyObject") == 2
    assert keys(upload.key) == set()
    (asset_id,) = announced(account)
    assert keys(f"assets/{asset_id}") == set()
    assert assets.stored(account) == (settings().storage_quota, 1)


def announced(account: str) -> list[str]:
    """Assets of the account that were to come."""
    pages = aws.dynamodb().get_paginator("scan").paginate(TableName=settings().assets_table, ConsistentRead=True)
    items: list[Item] = [dynamo.plain(item) for page in pages for item in page["Items"]]
    return [item["id"] for item in items if item.get("account") == account and item["id"].startswith("as_")]


def test_a_file_that_takes_the_place_of_the_inspected_one_is_not_what_is_kept(
    account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The form is sent again, with other bytes, between inspecting and copying."""
    upload, announce = come(account, SAMPLE["ready"]), assets.announce
    other = bytes(upload.bytes)

    def replaced(*arguments: Any) -> Any:
        monkeypatch.setattr(assets, "announce", announce)
        put(upload, other)
        return announce(*arguments)

    monkeypatch.setattr(assets, "announce", replaced)
    inspect(upload)
    assert found(upload).state == "inspecting"
    inspect(upload)

    decided = found(upload)
    assert (decided.state, decided.code) == ("rejected", "unknown_type")
    assert shelf(account) == []


# What has had its time


# A deleted asset: its row, the mark on it, its file and its thumbnail, the row.
REMOVING = ("GetItem", "UpdateItem", "DeleteObject", "DeleteObject", "UpdateItem", "DeleteItem")


@pytest.mark.parametrize("fault", struck(REMOVING))
def test_a_removal_that_died_is_finished_by_the_next(account: str, fault: Fault) -> None:
    upload = come(account, SAMPLE["ready"])
    inspect(upload)
    (asset,) = shelf(account)
    library.delete(asset, now() - 8 * DAY_S)
    later = partial(expire._one, asset.id, lambda _: [], now(), expire.Report())

    survived(later, fault)
    later()

    assert keys(f"assets/{asset.id}") == set()
    assert dynamo.get(settings().assets_table, {"id": asset.id}) is None
    assert assets.stored(account) == (0, 0)


def test_an_inspection_that_nobody_finishes_is_told_as_failed_and_its_file_deleted(account: str) -> None:
    upload = come(account, SAMPLE["ready"])
    with pytest.raises(Killed), aws_calls(Fault(CALLS["ready"].index("CopyObject"), "after", "death")):
        inspect(upload)
    assert found(upload).state == "inspecting"

    expire.expire(lambda: TIME_S, lambda _: [], now() + table.INSPECTED_WITHIN_S + 60)
    inspect(upload)
    purge.purge(lambda: TIME_S, now() + 2 * DAY_S)

    decided = found(upload)
    assert (decided.state, decided.code) == ("rejected", "inspection_failed")
    assert keys(upload.key) == set()
    assert announced(account) == []
    assert assets.stored(account) == (0, 0)
