"""Which projects use an asset, and what is left over of saves and deletions: whatever breaks, wherever it breaks."""

from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest

from local.cloud import Stack
from shared.core import aws, dynamo
from shared.core.clock import now
from shared.core.errors import PreconditionFailed
from shared.core.settings import settings
from shared.editor import check
from shared.editor.timeline import Document
from shared.projects import edit, leftovers, purge, table, usage
from shared.projects.table import Project, Request
from tests.inside import Effect, Fault, Killed, aws_calls

pytestmark = pytest.mark.usefixtures("product")

AMPLE = 900.0
LATER_S = leftovers.SETTLED_S + 60


@pytest.fixture
def account() -> str:
    return f"u{uuid4().hex[:12]}"


def request(account: str, *, ago: float = 0.0, key: str | None = None) -> Request:
    return Request(account, account, "test", key, None, now() - ago)


def picture(account: str) -> str:
    asset_id = f"as_{uuid4().hex[:26]}"
    fields = {"account": account, "kind": "upload", "content_type": "image/png", "key": f"assets/{asset_id}.png"}
    dynamo.save(settings().assets_table, {"id": asset_id, **fields, "bytes": 1, "created_at": "2026"})
    return asset_id


def document(*assets: str, large: bool = False) -> Document:
    clips = [{"asset": asset, "duration": 1} for asset in assets]
    texts = [{"text": "x" * 5000, "start": number, "duration": 1} for number in range(61 if large else 1)]
    tracks = [{"type": "video", "clips": clips}, {"type": "text", "clips": texts}]
    return check.parse({"title": "A film", "timeline": {"tracks": tracks}})


def made(account: str, *assets: str, large: bool = False) -> Project:
    return edit.create(document(*assets, large=large), request(account))[0]


def many(account: str, count: int, *assets: str) -> list[str]:
    """So many projects, as if they had been made one after the other."""
    summary = made(account).summary
    items = [{**vars(summary), "id": f"{summary.id}{number:03d}", "assets": assets} for number in range(count)]
    dynamo.put_all(settings().projects_table, [{**item, "created": f"2026#{item['id']}"} for item in items])
    return [str(item["id"]) for item in items]


def saved(project: Project, *assets: str, large: bool = False, ago: float = 0.0) -> Project:
    account = project.summary.account
    return edit.put(project.id, document(*assets, large=large), request(account, ago=ago), versions=None)


def hints(asset: str) -> list[str]:
    entries = dynamo.partition(settings().project_lists_table, partition=("list_id", f"uses#{asset}"), sort="entry")
    return [str(entry["entry"]) for entry in entries]


def objects(project_id: str = "") -> set[str]:
    pages = aws.s3().get_paginator("list_objects_v2")
    found = pages.paginate(Bucket=settings().media_bucket, Prefix=f"projects/{project_id}")
    return {item["Key"] for page in found for item in page.get("Contents", [])}


def named(stack: Stack) -> set[str]:
    """The documents in the bucket that versions have."""
    pages = stack.client("dynamodb").get_paginator("scan")
    found = pages.paginate(
        TableName=settings().projects_table, ProjectionExpression="document_key", ConsistentRead=True
    )
    return {str(item["document_key"]) for page in found for item in map(dynamo.plain, page["Items"]) if item}


@pytest.fixture
def lost(stack: Stack) -> Callable[[], set[str]]:
    """The documents that are in the bucket and no version's, or a version's and not there, since the test began."""
    before = objects() ^ named(stack)
    return lambda: (objects() ^ named(stack)) - before


def purged() -> purge.Report:
    """As the nightly run would, some hours later."""
    return purge.purge(lambda: AMPLE, now() + LATER_S)


def dying(work: Callable[[], object]) -> Iterator[tuple[str, Effect]]:
    """Have the process end at each AWS call of `work` in turn, before and after the call took effect; when all of it
    was done the turn is over."""
    call = 0
    while True:
        for effect in ("before", "after"):
            with aws_calls(Fault(call, effect, "death")) as calls:
                try:
                    work()
                except Killed:
                    pass
                else:
                    return
            yield calls.names[call], effect
        call += 1


# Who uses an asset


def test_the_projects_that_use_an_asset_are_told_newest_first(account: str) -> None:
    asset, another = picture(account), picture(account)
    projects = [made(account, asset, asset), made(account), made(account, another, asset)]
    dropped = saved(made(account, asset))
    table.delete(account, made(account, asset).id, 1, now())

    assert usage.of_asset(asset) == [projects[2].id, projects[0].id]
    assert usage.of_asset(another) == [projects[2].id]
    assert usage.of_asset(picture(account)) == []
    assert usage.of_asset(saved(dropped, another).summary.assets[0])[0] == dropped.id


def test_looking_costs_as_many_calls_with_many_projects_as_with_few(account: str) -> None:
    asset = picture(account)
    project = made(account, asset)

    def calls() -> list[str]:
        with aws_calls() as seen:
            assert usage.of_asset(asset) == [project.id]
        return seen.names

    few = calls()
    many(account, 200)

    assert calls() == few == ["Query", "BatchGetItem"]


def test_of_more_projects_than_anybody_reads_a_hundred_are_told(account: str) -> None:
    asset = picture(account)
    projects = many(account, 205, asset)
    for project in projects:
        usage.hint(project, [asset], now())

    assert usage.of_asset(asset) == projects[:-101:-1]


def test_a_save_of_a_thousand_new_assets_hints_at_each(account: str) -> None:
    assets = [f"as_{uuid4().hex[:26]}" for _ in range(60)]
    usage.hint("pr_many", assets, now())

    assert [hints(asset) for asset in assets] == [["pr_many"]] * 60
    usage.forget("pr_many", assets)
    assert [hints(asset) for asset in assets] == [[]] * 60


def test_wherever_a_save_ends_the_projects_that_use_an_asset_are_all_told(account: str) -> None:
    project, seen = made(account), []
    assets = [picture(account)]

    for call in dying(lambda: saved(project, assets[-1])):
        seen.append(call)
        used = table.known(account, project.id).assets
        assert usage.of_asset(assets[-1]) == [project.id for asset in used if asset == assets[-1]]
        assets.append(picture(account))

    assert usage.of_asset(assets[-1]) == [project.id]
    assert ("BatchWriteItem", "after") in seen
    assert seen[-1] == ("TransactWriteItems", "after")


def test_a_hint_that_is_untrue_goes_once_no_save_can_be_about_it_any_more(account: str) -> None:
    old, fresh = picture(account), picture(account)
    project = made(account)
    with pytest.raises(Killed), aws_calls(Fault(_place(project, old), "before", "death")):
        saved(project, old, ago=LATER_S)
    with pytest.raises(Killed), aws_calls(Fault(_place(project, fresh), "before", "death")):
        saved(project, fresh)
    assert (hints(old), hints(fresh)) == ([project.id], [project.id])

    assert (usage.of_asset(old), usage.of_asset(fresh)) == ([], [])

    assert (hints(old), hints(fresh)) == ([], [project.id])


def _place(project: Project, asset: str) -> int:
    """Which call of a save is the transaction."""
    other = made(project.summary.account)
    with aws_calls() as calls:
        saved(other, asset)
    table.delete(project.summary.account, other.id, 2, now())
    return calls.names.index("TransactWriteItems")


def test_a_save_that_begins_while_its_old_hint_is_being_removed_keeps_it(account: str) -> None:
    asset = picture(account)
    project = saved(made(account, asset))
    usage.hint(project.id, [asset], now() - LATER_S)
    (seen,) = dynamo.partition(settings().project_lists_table, partition=("list_id", f"uses#{asset}"), sort="entry")

    usage.hint(project.id, [asset], now())
    usage._remove(seen)

    assert hints(asset) == [project.id]


# What is left over


def test_wherever_a_save_of_a_large_document_ends_no_file_stays_without_its_version(
    lost: Callable[[], set[str]], account: str
) -> None:
    project, seen = made(account, large=True), []
    for number in range(2, table.KEPT + 1):
        project = saved(project, large=number <= 12)

    for call in dying(lambda: saved(project, large=True)):
        seen.append(call)
        purged()
        assert lost() == set()
        current = table.find(account, project.id)
        oldest = table.version_of(account, project.id, current.version - table.KEPT + 1)
        assert len(str(oldest.document)) > table.LARGEST_ITEM

    purged()
    assert lost() == set()
    assert ("DeleteObject", "before") in seen
    assert seen[-1] == ("DeleteItem", "after")


def test_wherever_the_making_of_a_large_project_ends_no_file_stays_without_it(
    lost: Callable[[], set[str]], account: str
) -> None:
    seen = []
    for call in dying(lambda: made(account, large=True)):
        seen.append(call)
        purged()
        assert lost() == set()
        for project in table.page(account, limit=10, cursor=None)[0]:
            assert table.find(account, project.id).document["title"] == "A film"

    assert {name for name, _ in seen} >= {"PutItem", "PutObject", "TransactWriteItems"}
    assert len(table.page(account, limit=10, cursor=None)[0]) == 2  # The last before it ended well, and that one.


def test_wherever_a_deletion_ends_the_project_is_whole_or_wholly_gone(
    lost: Callable[[], set[str]], account: str
) -> None:
    def project() -> Project:
        return saved(saved(made(account, large=True), large=True), large=True)

    made_so_far = [project()]
    for call, _effect in dying(lambda: table.delete(account, made_so_far[-1].id, 3, now())):
        one = made_so_far[-1].id
        purged()
        if table.page(account, limit=10, cursor=None)[0]:
            assert call in ("GetItem", "TransactWriteItems")
            assert table.version_of(account, one, 1).document == table.find(account, one).document
        else:
            assert objects(one) == set()
            made_so_far.append(project())

    assert len(made_so_far) > table.KEPT // 10
    assert lost() == set()
    assert objects(made_so_far[-1].id) == set()


def test_a_file_that_a_save_is_just_writing_is_left_alone(account: str) -> None:
    entry = leftovers.row(f"projects/pr_{uuid4().hex[:26]}/v_1.json", now())
    leftovers.announce(entry)
    aws.s3().put_object(Bucket=settings().media_bucket, Key=leftovers.name_of(entry), Body=b"{}")

    purge.purge(lambda: AMPLE, now())
    assert leftovers.name_of(entry) in objects()
    purge.purge(lambda: 0.0, now() + LATER_S)
    assert leftovers.name_of(entry) in objects()
    purged()
    assert leftovers.name_of(entry) not in objects()


def test_an_answer_of_the_table_that_is_lost_costs_nobody_his_document(account: str) -> None:
    project = made(account, large=True)
    with aws_calls() as calls:
        project = saved(project, large=True)

    with aws_calls(Fault(calls.names.index("TransactWriteItems"), "after", "once")):
        again = saved(project, large=True)

    purged()
    assert table.find(account, project.id) == again
    assert again.version == 3


def test_a_late_save_of_a_large_document_leaves_no_file(account: str) -> None:
    project = made(account, large=True)
    saved(project)

    with pytest.raises(PreconditionFailed):
        table.save(project.summary, _draft(project), request(account))

    assert len(objects(project.id)) == 1


def _draft(project: Project) -> table.Draft:
    summary = project.summary
    return table.Draft(project.document, summary.clips, summary.duration_s, summary.assets)


def test_the_deployed_purge_clears_what_is_left_over(stack: Stack) -> None:
    project_id = f"pr_{uuid4().hex[:26]}"
    version = {
        "id": f"{project_id}#01",
        "account": "gone",
        "version": 1,
        "document_key": f"projects/{project_id}/v.json",
    }
    dynamo.save(settings().projects_table, version)
    keys = [f"projects/{project_id}/v.json", f"projects/{project_id}/lost.json"]
    for key in keys:
        aws.s3().put_object(Bucket=settings().media_bucket, Key=key, Body=b"{}")
    for left in (project_id, keys[1]):
        leftovers.announce(leftovers.row(left, now() - LATER_S))

    answer = stack.client("lambda").invoke(FunctionName=stack.functions["PurgeMediaFunction"], Payload=b"{}")

    assert "FunctionError" not in answer, answer["Payload"].read()
    assert objects(project_id) == set()
    item = dynamo.get(settings().projects_table, {"id": version["id"]}) or {}
    assert "expires_at" in item
    assert "document_key" not in item
    assert list(leftovers.due(now())) == []
