"""Files without an asset: found by the asset's announcement, without looking through the bucket."""

import io
import json
from collections.abc import Iterator
from uuid import uuid4

import pytest
from PIL import Image

from local.cloud import Stack
from shared.core import aws, dynamo
from shared.core.clock import now
from shared.core.settings import settings
from shared.media import assets, purge
from shared.media.assets import Asset, BadOutput, Origin
from tests.inside import Fault, Killed, aws_calls

pytestmark = pytest.mark.usefixtures("product")

DAY_S = 86400
AMPLE = 900.0


@pytest.fixture
def asset_id() -> str:
    return f"as_{uuid4().hex}"


def picture(kind: str = "PNG") -> Iterator[bytes]:
    file = io.BytesIO()
    Image.new("RGB", (30, 20)).save(file, kind)
    return iter([file.getvalue()])


def store(asset_id: str, source: Iterator[bytes]) -> Asset:
    origin = Origin("purge-test", "job_1", "image")
    return assets.store(source, asset_id, origin, length=None, family="image", largest=10**6, now=now())


def die_before_recording(asset_id: str, source: Iterator[bytes]) -> None:
    """The process ends between the file and the row."""
    with aws_calls() as calls:
        store(f"as_{uuid4().hex}", picture("WEBP"))
    with pytest.raises(Killed), aws_calls(Fault(calls.names.index("TransactWriteItems"), "before", "death")):
        store(asset_id, source)


def files(stack: Stack, asset_id: str) -> list[str]:
    answer = stack.client("s3").list_objects_v2(Bucket=stack.buckets["media"], Prefix=f"assets/{asset_id}")
    return [found["Key"] for found in answer.get("Contents", [])]


def run(*, later: float = DAY_S + 60) -> purge.Report:
    """As the nightly run would, so much later."""
    return purge.purge(lambda: AMPLE, now() + later)


def test_a_file_whose_asset_never_came_about_is_gone_the_day_after_and_not_before(stack: Stack, asset_id: str) -> None:
    die_before_recording(asset_id, picture("WEBP"))
    assert files(stack, asset_id) == [f"assets/{asset_id}.webp"]
    assert assets.find(asset_id, account="purge-test") is None

    run(later=0)
    assert files(stack, asset_id) == [f"assets/{asset_id}.webp"]
    report = run()

    assert report.deleted >= 1
    assert files(stack, asset_id) == []
    assert dynamo.get(settings().assets_table, {"id": asset_id}) is None


def test_an_asset_keeps_its_file_and_loses_that_of_an_earlier_try(stack: Stack, asset_id: str) -> None:
    die_before_recording(asset_id, picture("WEBP"))
    asset = store(asset_id, picture("PNG"))
    assert len(files(stack, asset_id)) == 2

    run()

    assert files(stack, asset_id) == [asset.key]
    assert assets.find(asset_id, account="purge-test") == asset


def test_what_was_stored_at_the_first_try_is_not_looked_at(stack: Stack, asset_id: str) -> None:
    asset = store(asset_id, picture())
    run()

    item = dynamo.get(settings().assets_table, {"id": asset_id})
    assert item is not None
    assert not {"pending_at", "pending_shard"} & item.keys()
    assert asset_id not in purge._due(now() + 2 * DAY_S)
    assert files(stack, asset_id) == [asset.key]


def test_what_was_refused_leaves_no_row_behind(stack: Stack, asset_id: str) -> None:
    with pytest.raises(BadOutput):
        store(asset_id, iter([b"\x89PNG\r\n\x1a\n broken" + bytes(100)]))

    run()

    assert files(stack, asset_id) == []
    assert dynamo.get(settings().assets_table, {"id": asset_id}) is None


def test_nothing_of_the_bucket_is_listed_but_what_is_due(asset_id: str) -> None:
    die_before_recording(asset_id, picture())
    run()

    with aws_calls() as calls:
        report = run()

    assert report == purge.Report()
    assert calls.names == ["Query"] * assets.SHARDS


def test_the_deployed_function_may_do_what_it_does(stack: Stack, asset_id: str) -> None:
    die_before_recording(asset_id, picture())
    made_old = {"pending_at": int(now() - 2 * DAY_S)}
    aws.dynamodb().update_item(
        TableName=settings().assets_table,
        Key=dynamo.attributes({"id": asset_id}),
        UpdateExpression="SET pending_at = :pending_at",
        ExpressionAttributeValues=dynamo.attributes({f":{name}": value for name, value in made_old.items()}),
    )

    answer = stack.client("lambda").invoke(FunctionName=stack.functions["PurgeMediaFunction"], Payload=b"{}")

    assert "FunctionError" not in answer
    report = json.loads(answer["Payload"].read())
    assert [report[name]["failed"] for name in ("assets", "projects")] == [0, 0]
    assert files(stack, asset_id) == []
    assert dynamo.get(settings().assets_table, {"id": asset_id}) is None
