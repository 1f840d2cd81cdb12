"""Uploads and the library as a caller meets them."""

import json
from collections.abc import Iterator

import pytest

from api import assets as assets_api
from api import uploads as uploads_api
from shared.media import assets
from shared.media.assets import Origin
from shared.uploads import table
from tests.unit import tables
from tests.unit.helpers import Answer, Context, Json, Loopback, event, problem, token


@pytest.fixture(autouse=True)
def library_table(cloud: Loopback, environment: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """An empty table behind an open door, and what is in the bucket."""
    door = {name: cloud.answers[f"DynamoDB_20120810.{name}"] for name in ("UpdateItem", "BatchGetItem")}
    tables.emulated(cloud)

    def update(body: bytes) -> Answer:
        at_the_door = json.loads(body)["TableName"] == "limits"
        return (door["UpdateItem"] if at_the_door else emulated)(body)

    emulated = cloud.answers["DynamoDB_20120810.UpdateItem"]
    cloud.answers["DynamoDB_20120810.UpdateItem"] = update
    cloud.answers["DynamoDB_20120810.BatchGetItem"] = door["BatchGetItem"]
    bucket = cloud.keeps_objects("media")
    with tables.having(environment, "AssetsTable", "ASSETS_TABLE"):
        yield bucket


def call(method: str, path: str, body: Json | None = None, *, who: str = "alice", **more: Json) -> Json:
    module = uploads_api if path.startswith("/v1/uploads") else assets_api
    return module.handler(event(method, path, body=body, token=token(sub=who), **more), Context())


def promised(who: str = "alice") -> Json:
    answer = call("POST", "/v1/uploads", {"content_type": "image/png", "bytes": 100, "name": "Logo"}, who=who)
    assert answer["statusCode"] == 201
    upload: Json = json.loads(answer["body"])
    return upload


def generated() -> None:
    origin = Origin("alice", "job_1", "transcription", "srt")
    assets.store_text("hello", "application/x-subrip", "as_1", origin, now=1_790_848_800.0)


def test_a_small_upload_is_answered_with_its_form() -> None:
    upload = promised()

    assert (upload["state"], upload["parts"]) == ("waiting", None)
    assert upload["post"]["fields"]["key"] == f"uploads/{upload['id']}"


@pytest.mark.parametrize(("method", "suffix"), [("GET", ""), ("GET", "/parts"), ("POST", "/complete"), ("DELETE", "")])
def test_somebody_elses_upload_is_not_found(method: str, suffix: str) -> None:
    upload = promised()

    answer = call(method, f"/v1/uploads/{upload['id']}{suffix}", who="mallory")

    assert problem(answer)["code"] == "not_found"


def test_what_was_given_up_is_gone() -> None:
    upload = promised()

    assert call("DELETE", f"/v1/uploads/{upload['id']}")["statusCode"] == 204
    assert call("GET", f"/v1/uploads/{upload['id']}")["statusCode"] == 404


def test_what_has_come_can_neither_be_sent_nor_given_up() -> None:
    upload = promised()
    table.begin_inspection(upload["id"], 1_790_848_800.0)

    for method, suffix in (("GET", "/parts"), ("DELETE", "")):
        assert problem(call(method, f"/v1/uploads/{upload['id']}{suffix}"))["code"] == "upload_received"


@pytest.mark.parametrize(
    ("method", "suffix", "body"),
    [
        ("GET", "", None),
        ("PATCH", "", {"name": "x"}),
        ("DELETE", "", None),
        ("POST", "/restore", None),
        ("GET", "/content", None),
    ],
)
def test_somebody_elses_asset_is_not_found(method: str, suffix: str, body: Json | None) -> None:
    generated()

    assert problem(call(method, f"/v1/assets/as_1{suffix}", body, who="mallory"))["code"] == "not_found"


def test_an_asset_that_projects_use_is_deleted_only_by_force(monkeypatch: pytest.MonkeyPatch) -> None:
    generated()
    monkeypatch.setattr(assets_api.usage, "of_asset", lambda _: ["pr_1", "pr_2"])

    refused = problem(call("DELETE", "/v1/assets/as_1"))
    assert (refused["status"], refused["code"], refused["projects"]) == (409, "asset_in_use", ["pr_1", "pr_2"])

    assert call("DELETE", "/v1/assets/as_1", query={"force": "true"})["statusCode"] == 204
    assert call("GET", "/v1/assets/as_1")["statusCode"] == 404
    assert json.loads(call("GET", "/v1/storage")["body"])["files"] == 0
    assert call("POST", "/v1/assets/as_1/restore")["statusCode"] == 200
    assert json.loads(call("GET", "/v1/assets")["body"])["items"][0]["id"] == "as_1"
