"""Files of the user's own, from the announcement to the asset or the reason why there is none."""

import hashlib
import io
import json
from collections.abc import Callable
from functools import partial

import httpx
import pytest
from PIL import Image

from local.cloud import Stack
from tests import corpus
from tests.e2e.helpers import at_once, check_problem, eventually, pointers
from tests.e2e.uploading import (
    QUOTA,
    decided,
    has_stored,
    in_library,
    invoke,
    keys,
    make_due,
    promised,
    sent,
    uploaded,
    web,
)
from tests.support import Json, Studio, rows

NewStudio = Callable[..., Studio]

MIB = 1024 * 1024


def created(stack: Stack, key: str) -> Json:
    """What EventBridge tells of a new object."""
    bucket = {"name": stack.buckets["media"]}
    return {"source": "aws.s3", "detail-type": "Object Created", "detail": {"bucket": bucket, "object": {"key": key}}}


def stored(studio: Studio) -> tuple[int, int]:
    told = studio.http.get("/storage").json()
    return told["bytes"], told["files"]


def listed(studio: Studio, **query: str) -> list[Json]:
    answer = studio.http.get("/assets", params={"limit": 100, **query})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


# What is ready


def test_a_film_a_logo_and_a_voice_over_become_assets_as_they_are(studio: Studio) -> None:
    film, logo, voice, captions = at_once(
        [
            partial(in_library, studio, "rotation 90", "Hafen — 日本 🎞.mp4"),
            partial(in_library, studio, "alpha PNG", "logo.png"),
            partial(in_library, studio, "FLAC"),
            lambda: uploaded(studio, b"1\n00:00:01,000 --> 00:00:02,500\nHello\n", "application/x-subrip")["asset"],
        ]
    )

    assert (film["kind"], film["source"], film["name"]) == ("video", "upload", "Hafen — 日本 🎞.mp4")
    assert (film["width"], film["height"], film["duration_s"]) == (96, 128, 2.0)
    assert film["probe"]["picture"]["rotation"] == 90
    assert film["probe"]["sounds"][0]["sample_rate"] == 48000
    with Image.open(io.BytesIO(web.get(film["thumbnail_url"]).content)) as image:
        assert (image.format, image.size) == ("WEBP", (96, 128))
    assert logo["probe"]["still"]["alpha"] is True
    with Image.open(io.BytesIO(web.get(logo["thumbnail_url"]).content)) as image:
        assert image.mode == "RGBA"
    assert (voice["kind"], voice["duration_s"], voice["thumbnail_url"]) == ("audio", 2.0, None)
    peaks = web.get(voice["peaks_url"]).json()
    assert max(peaks["data"]) > 5
    with Image.open(io.BytesIO(web.get(voice["waveform_url"]).content)) as image:
        assert image.width == peaks["length"]
    assert (captions["kind"], captions["probe"]["cues"]) == ("captions", 1)
    for asset, sample in ((film, "rotation 90"), (logo, "alpha PNG"), (voice, "FLAC")):
        content = web.get(asset["url"])
        assert content.content == corpus.make(sample)
        assert content.headers["content-type"] == corpus.SAMPLES[sample].media_type
    made = {asset["id"]: asset["bytes"] for asset in (film, logo, voice, captions)}
    assert {asset["id"]: asset["bytes"] for asset in listed(studio)} == made
    assert stored(studio) == (sum(made.values()), 4)


# What is not


def test_what_cannot_be_used_is_rejected_with_the_reason_and_its_bytes_are_deleted(studio: Studio) -> None:
    samples = {
        "truncated": "truncated",
        "no moov": "no_index",
        "corrupt end": "corrupt",
        "a PNG that is called a JPEG": "wrong_type",
        "a playlist": "unknown_type",
    }

    def reject(sample: str) -> Json:
        return uploaded(studio, corpus.make(sample), corpus.SAMPLES[sample].media_type)

    outcomes = at_once([partial(reject, sample) for sample in samples])

    assert [(each["state"], each["error"]["code"], each["asset"]) for each in outcomes] == [
        ("rejected", code, None) for code in samples.values()
    ]
    assert all(each["error"]["detail"] for each in outcomes)
    sources = [f"uploads/{each['id']}" for each in outcomes]
    eventually(lambda: not any(keys(studio, key) for key in sources), timeout=30, what="end of the bytes")
    assert listed(studio) == []
    assert stored(studio) == (0, 0)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"content_type": "text/html", "bytes": 5}, {"/content_type"}),
        ({"content_type": "image/svg+xml", "bytes": 5}, {"/content_type"}),
        ({"content_type": "image/png", "bytes": 10_000_001}, {"/bytes"}),
        ({"content_type": "audio/wav", "bytes": 25_000_001}, {"/bytes"}),
        ({"content_type": "video/mp4", "bytes": 500_000_001}, {"/bytes"}),
        ({"content_type": "text/vtt", "bytes": 1_000_001}, {"/bytes"}),
        ({"content_type": "video/mp4", "bytes": 0}, {"/bytes"}),
        ({"content_type": "video/mp4", "bytes": "9"}, {"/bytes"}),
        ({"content_type": "video/mp4", "bytes": 5, "name": ""}, {"/name"}),
        ({"content_type": "video/mp4", "bytes": 5, "key": "uploads/mine"}, {"/key"}),
        ({}, {"/content_type", "/bytes"}),
    ],
)
def test_what_nobody_would_take_is_told_before_it_is_sent(studio: Studio, body: Json, where: set[str]) -> None:
    assert pointers(studio.http.post("/uploads", json=body)) == where


def test_s3_itself_takes_nothing_but_what_was_promised(studio: Studio) -> None:
    data = corpus.make("alpha PNG")
    upload = promised(studio, "image/png", len(data))

    refused = [
        sent(upload, data + b"x"),
        sent(upload, data[:-1]),
        sent(upload, b""),
        sent(upload, data, form={"Content-Type": "text/html"}),
        sent(upload, data, form={"key": "uploads/up_of_somebody_else"}),
        sent(upload, data, form={"key": "assets/as_of_somebody_else.png"}),
        sent(upload, data, form={"acl": "public-read"}),
        sent(upload, data, form={"x-amz-signature": "0" * 64}),
    ]

    assert {answer.status_code for answer in refused} <= {400, 403}
    assert "EntityTooLarge" in refused[0].text
    assert studio.http.get(f"/uploads/{upload['id']}").json()["state"] == "waiting"
    assert sent(upload, data).status_code == 204
    assert decided(studio, upload["id"])["state"] == "ready"


# Large files


@pytest.fixture(scope="module")
def large_film() -> bytes:
    """A film of 51 MB: a short one with a box of nothing behind it."""
    data = corpus.make("moov first")
    filler = 51_000_000 - len(data)
    return data + filler.to_bytes(4) + b"free" + bytes(filler - 8)


def put(upload: Json, data: bytes, number: int) -> httpx.Response:
    """Send a part to its URL."""
    part = upload["parts"][number - 1]
    start = sum(each["bytes"] for each in upload["parts"][: number - 1])
    return web.put(part["url"], content=data[start : start + part["bytes"]])


def test_a_large_film_comes_in_parts_and_goes_on_where_it_broke_off(studio: Studio, large_film: bytes) -> None:
    upload = promised(studio, "video/mp4", len(large_film), "large")
    assert upload["post"] is None
    assert [part["bytes"] for part in upload["parts"]] == [16 * MIB] * 3 + [51_000_000 - 48 * MIB]
    for number in (4, 1):
        assert put(upload, large_film, number).status_code == 200
    web.put(upload["parts"][1]["url"], content=large_film[:1000])  # The connection broke.

    early = studio.http.post(f"/uploads/{upload['id']}/complete")
    left = studio.http.get(f"/uploads/{upload['id']}/parts").json()["items"]
    for part in left:
        if part["url"]:
            assert put({"parts": left}, large_film, part["number"]).status_code == 200
    answers = [studio.http.post(f"/uploads/{upload['id']}/complete") for _ in range(3)]
    outcome = decided(studio, upload["id"])
    late = studio.http.post(f"/uploads/{upload['id']}/complete")

    assert check_problem(early, 409, "upload_incomplete")["missing_parts"] == [2, 3]
    assert [part["number"] for part in left if part["url"]] == [2, 3]
    assert [answer.status_code for answer in [*answers, late]] == [202] * 4
    assert (outcome["state"], late.json()["state"]) == ("ready", "ready")
    assert outcome["asset"]["bytes"] == len(large_film)
    content = web.get(outcome["asset"]["url"]).content
    assert hashlib.sha256(content).digest() == hashlib.sha256(large_film).digest()
    assert stored(studio) == (len(large_film), 1)
    eventually(lambda: not keys(studio, f"uploads/{upload['id']}"), timeout=30, what="end of what was sent")


def unfinished(studio: Studio, upload: Json) -> bool:
    """Whether S3 still keeps parts of the upload."""
    s3, bucket = studio.stack.client("s3"), studio.stack.buckets["media"]
    found = s3.list_multipart_uploads(Bucket=bucket, Prefix=f"uploads/{upload['id']}")
    return bool(found.get("Uploads"))


def test_what_is_given_up_is_gone_and_can_be_sent_no_more(studio: Studio, large_film: bytes) -> None:
    large, small = promised(studio, "video/mp4", len(large_film)), promised(studio, "image/png", 4)
    assert put(large, large_film, 4).status_code == 200
    assert unfinished(studio, large)

    for upload in (large, small):
        assert studio.http.delete(f"/uploads/{upload['id']}").status_code == 204
        for method, path in (("GET", ""), ("GET", "/parts"), ("POST", "/complete"), ("DELETE", "")):
            check_problem(studio.http.request(method, f"/uploads/{upload['id']}{path}"), 404, "not_found")

    assert not unfinished(studio, large)
    assert put(large, large_film, 1).status_code == 404
    assert sent(small, b"late").status_code == 204  # The form is still good; nobody wants the file.
    eventually(lambda: not keys(studio, f"uploads/{small['id']}"), timeout=30, what="end of the late file")


def test_what_has_come_can_neither_be_sent_nor_given_up(studio: Studio) -> None:
    asset = in_library(studio, "alpha PNG")
    (upload,) = [each for each in uploads_of(studio) if each["asset_id"] == asset["id"]]

    for method, path in (("GET", "/parts"), ("DELETE", "")):
        check_problem(studio.http.request(method, f"/uploads/{upload['id']}{path}"), 409, "upload_received")


def uploads_of(studio: Studio) -> list[Json]:
    """The account's uploads, as the table has them."""
    pages = studio.stack.client("dynamodb").get_paginator("scan")
    found = pages.paginate(
        TableName=studio.stack.tables["assets"],
        FilterExpression="account = :account AND begins_with(id, :up)",
        ExpressionAttributeValues={":account": {"S": studio.account}, ":up": {"S": "up_"}},
        ConsistentRead=True,
    )
    return [rows(studio.stack, "assets", id=item["id"]["S"])[0] for page in found for item in page["Items"]]


def test_a_repeated_announcement_is_the_same_upload(studio: Studio) -> None:
    body, headers = {"content_type": "video/mp4", "bytes": 60_000_000}, {"idempotency-key": "once"}

    first, *others = at_once([lambda: studio.http.post("/uploads", json=body, headers=headers)] * 6)
    another = studio.http.post("/uploads", json={**body, "bytes": 7}, headers=headers)

    assert {answer.status_code for answer in (first, *others)} == {201}
    assert {answer.json()["id"] for answer in others} == {first.json()["id"]}
    assert len(uploads_of(studio)) == 1
    check_problem(another, 422, "idempotency_key_reused")


# Events that come again, too late, or for nothing


def test_an_event_that_comes_again_changes_nothing(studio: Studio) -> None:
    """Ten times while the file is inspected, and once more afterwards."""
    data = corpus.make("mono")
    upload = promised(studio, "video/mp4", len(data))
    event = created(studio.stack, f"uploads/{upload['id']}")
    invoke(studio.stack, "InspectUploadFunction", event)  # Before the file.
    assert studio.http.get(f"/uploads/{upload['id']}").json()["state"] == "waiting"

    assert sent(upload, data).status_code == 204
    deliver = partial(
        studio.stack.client("lambda").invoke, FunctionName=studio.stack.functions["InspectUploadFunction"]
    )
    at_once([lambda: deliver(Payload=json.dumps(event).encode())] * 10)
    outcome = decided(studio, upload["id"])
    invoke(studio.stack, "InspectUploadFunction", event)

    asset = outcome["asset"]
    assert outcome["state"] == "ready"
    assert [each["id"] for each in listed(studio)] == [asset["id"]]
    assert stored(studio) == (len(data), 1)
    assert web.get(asset["url"]).content == data
    assert web.get(asset["thumbnail_url"]).status_code == 200
    assert keys(studio, f"uploads/{upload['id']}") == set()


def test_a_form_that_is_sent_again_does_not_change_the_asset(studio: Studio) -> None:
    data = corpus.make("alpha PNG")
    upload = promised(studio, "image/png", len(data))
    assert sent(upload, data).status_code == 204
    asset = decided(studio, upload["id"])["asset"]

    assert sent(upload, bytes(len(data))).status_code == 204

    eventually(lambda: not keys(studio, f"uploads/{upload['id']}"), timeout=30, what="end of the second file")
    assert decided(studio, upload["id"])["asset"]["id"] == asset["id"]
    assert web.get(asset["url"]).content == data
    assert stored(studio) == (len(data), 1)


def test_an_event_of_nobodys_file_deletes_it(studio: Studio) -> None:
    key = "uploads/up_00000000000000000000000000"
    studio.stack.client("s3").put_object(Bucket=studio.stack.buckets["media"], Key=key, Body=b"x")

    eventually(lambda: not keys(studio, key), timeout=30, what="end of nobody's file")


# Room


def test_the_quota_cannot_be_passed_by_any_number_of_uploads(studio: Studio) -> None:
    data = corpus.make("alpha PNG")
    used = QUOTA - 2 * len(data) - 100
    has_stored(studio, used)

    check = {"content_type": "video/mp4", "bytes": 2 * len(data) + 101}
    refused = check_problem(studio.http.post("/uploads", json=check), 409, "storage_quota_exceeded")
    outcomes = at_once([partial(uploaded, studio, data, "image/png") for _ in range(6)])

    assert (refused["used"], refused["quota"]) == (used, QUOTA)
    ready = [each["asset"] for each in outcomes if each["state"] == "ready"]
    assert len(ready) == 2
    assert {each["error"]["code"] for each in outcomes if each["state"] == "rejected"} == {"quota_exceeded"}
    assert stored(studio) == (used + 2 * len(data), 3)
    assert len(listed(studio)) == 2
    own = {key for asset in ready for key in keys(studio, f"assets/{asset['id']}")}
    assert len(own) == 4  # The files, and their thumbnails.

    # What was deleted makes room, which is then another's.
    assert studio.http.delete(f"/assets/{ready[0]['id']}").status_code == 204
    assert uploaded(studio, data, "image/png")["state"] == "ready"
    check_problem(studio.http.post(f"/assets/{ready[0]['id']}/restore"), 409, "storage_quota_exceeded")


# What goes by itself


def test_what_has_had_its_time_goes_and_what_is_used_stays(studio: Studio, large_film: bytes) -> None:
    stack = studio.stack
    large, small = promised(studio, "video/mp4", len(large_film)), promised(studio, "image/png", 4)
    assert put(large, large_film, 4).status_code == 200
    unused, in_a_project, named, deleted, restored = at_once(
        [partial(in_library, studio, "alpha PNG", f"{number}") for number in range(5)]
    )
    clips = [{"asset": in_a_project["id"], "duration": 3}]
    project = {"title": "x", "timeline": {"fps": 30, "tracks": [{"type": "video", "clips": clips}]}}
    assert studio.http.post("/projects", json=project).status_code == 201
    assert studio.http.patch(f"/assets/{named['id']}", json={"tags": ["keep"]}).status_code == 200
    for asset in (deleted, restored):
        assert studio.http.delete(f"/assets/{asset['id']}").status_code == 204
    assert studio.http.post(f"/assets/{restored['id']}/restore").status_code == 200

    assert not {"due_at", "due_shard"} & rows(stack, "assets", id=named["id"])[0].keys()
    assert not {"due_at", "due_shard"} & rows(stack, "assets", id=restored["id"])[0].keys()
    for item in (large, small, unused, in_a_project, deleted):
        make_due(stack, item["id"])
    report = invoke(stack, "ExpireMediaFunction", {})

    assert report["failed"] == 0
    for upload in (large, small):
        check_problem(studio.http.get(f"/uploads/{upload['id']}"), 404, "not_found")
    assert not unfinished(studio, large)
    assert {asset["id"] for asset in listed(studio)} == {in_a_project["id"], named["id"], restored["id"]}
    assert [asset["id"] for asset in listed(studio, deleted="true")] == [unused["id"]]
    assert keys(studio, f"assets/{deleted['id']}") == set()
    check_problem(studio.http.post(f"/assets/{deleted['id']}/restore"), 404, "not_found")
    assert studio.http.post(f"/assets/{unused['id']}/restore").status_code == 200
    assert web.get(unused["url"]).content == corpus.make("alpha PNG")
    assert stored(studio) == (4 * len(corpus.make("alpha PNG")), 4)
    # What is in use is not looked at again.
    assert not {"due_at", "due_shard"} & rows(stack, "assets", id=in_a_project["id"])[0].keys()


# Of others


def test_a_second_account_finds_nothing_of_it(studio: Studio, new_studio: NewStudio, large_film: bytes) -> None:
    large, small = promised(studio, "video/mp4", len(large_film)), promised(studio, "image/png", 4)
    stranger = new_studio(credits=0)

    for upload in (large, small):
        for method, path in (("GET", ""), ("GET", "/parts"), ("POST", "/complete"), ("DELETE", "")):
            check_problem(stranger.http.request(method, f"/uploads/{upload['id']}{path}"), 404, "not_found")
    asset = in_library(studio, "alpha PNG")
    for upload_id in (asset["id"], f"storage#{studio.account}".replace("#", "%23"), "up_", "up_%00"):
        check_problem(studio.http.get(f"/uploads/{upload_id}"), 404, "not_found")
    assert studio.http.get(f"/uploads/{large['id']}").json()["state"] == "waiting"


def test_the_audit_tells_the_life_of_an_upload(studio: Studio, new_studio: NewStudio) -> None:
    asset = in_library(studio, "alpha PNG", "logo")
    (upload,) = uploads_of(studio)

    def told() -> list[Json] | None:
        found = studio.http.get("/audit", params={"resource": f"upload/{upload['id']}"}).json()["items"][::-1]
        states = [entry["changes"]["state"]["after"] for entry in found if "state" in entry["changes"]]
        return found if states == ["waiting", "inspecting", "ready"] else None

    entries = eventually(told, timeout=30, what="the upload in the audit")

    assert [entry["actor"] for entry in entries] == [studio.account, "system:inspection", "system:inspection"]
    assert entries[-1]["changes"]["asset_id"]["after"] == asset["id"]
    stranger = new_studio(credits=0).http.get("/audit", params={"resource": f"upload/{upload['id']}"})
    assert stranger.json()["items"] == []
