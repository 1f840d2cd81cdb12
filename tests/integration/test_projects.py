"""Projects in their table: versions, who was first, what is remembered, and what is too large for an item."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import uuid4

import pytest

from shared.core import aws, dynamo
from shared.core.clock import now
from shared.core.errors import Invalid, NotFound, PreconditionFailed
from shared.core.settings import settings
from shared.editor import check, timeline
from shared.editor.operations import Append, Operation, RippleDelete, Split
from shared.editor.timeline import Document
from shared.projects import edit, table, usage
from shared.projects.table import Project, Request

pytestmark = pytest.mark.usefixtures("product")

GAP = {"gap": True, "duration": 2}


@pytest.fixture
def account() -> str:
    return f"u{uuid4().hex[:12]}"


def document(*clips: Any, title: str = "A film", **line: Any) -> Document:
    tracks = [{"type": "video", "clips": list(clips)}]
    return check.parse({"title": title, "timeline": {"tracks": tracks, **line}})


def request(account: str, operation: str = "test", key: str | None = None, body: Any = None) -> Request:
    return Request(account, account, operation, key, body, now())


def made(account: str, *clips: Any, title: str = "A film") -> Project:
    project, _ = edit.create(document(*clips, title=title), request(account))
    return project


def saved(project: Project, title: str, version: int | None = None) -> Project:
    account = project.summary.account
    versions = {version or project.version}
    return edit.put(project.id, document(title=title), request(account), versions=versions)


def asset(account: str, content_type: str, duration: float | None) -> str:
    asset_id = f"as_{uuid4().hex[:26]}"
    fields = {"account": account, "kind": "upload", "content_type": content_type, "key": f"assets/{asset_id}"}
    known = {"duration_s": duration} if duration else {}
    dynamo.save(settings().assets_table, {"id": asset_id, **fields, **known, "bytes": 1, "created_at": "2026"})
    return asset_id


def objects(project_id: str) -> list[str]:
    answer = aws.s3().list_objects_v2(Bucket=settings().media_bucket, Prefix=f"projects/{project_id}/")
    return [found["Key"] for found in answer.get("Contents", [])]


def test_a_project_is_read_as_it_was_saved_and_only_by_its_account(account: str) -> None:
    project = made(account, GAP)

    found = table.find(account, project.id)

    assert found == project
    assert (found.version, found.summary.clips, found.summary.duration_s) == (1, 1, 2)
    assert found.document["timeline"]["tracks"][0]["clips"][0] == {"id": "c1", **GAP}
    for who, name in (("somebody", project.id), (account, f"{project.id}#01"), (account, "pr_nobody")):
        with pytest.raises(NotFound):
            table.find(who, name)


def test_a_save_of_the_current_version_makes_the_next_and_a_stale_one_changes_nothing(account: str) -> None:
    project = made(account)

    second = saved(project, "Two")
    with pytest.raises(PreconditionFailed) as stale:
        saved(project, "Late", version=1)

    assert second.version == 2
    assert stale.value.fields == {"version": 2}
    assert table.find(account, project.id).summary.title == "Two"


def test_of_many_saves_of_one_version_one_is_taken(account: str) -> None:
    project = made(account)

    def save(number: int) -> int:
        try:
            return saved(project, f"By {number}", version=1).version
        except PreconditionFailed:
            return 0

    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(save, range(16)))

    assert sorted(versions) == [0] * 15 + [2]
    assert table.find(account, project.id).summary.title == f"By {versions.index(2)}"


def test_two_who_operate_at_once_lose_nothing(account: str) -> None:
    project = made(account)

    def append(number: int) -> None:
        clip = {"id": f"n{number}", **GAP}
        edit.operate(
            project.id, [Append(type="append", track=0, clip=clip)], request(account, "operate"), versions=None
        )

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(append, range(40)))

    found = table.find(account, project.id)
    clips = found.document["timeline"]["tracks"][0]["clips"]
    assert sorted(clip["id"] for clip in clips) == sorted(f"n{number}" for number in range(40))
    assert found.version == 41


def test_two_editors_who_save_200_times_at_once_lose_nothing_and_every_stale_save_is_told(account: str) -> None:
    project = made(account)
    rounds, together = 100, Barrier(2)

    def edits(editor: str) -> tuple[list[str], list[int]]:
        """The clips of the edits that were taken, and the rounds that came too late: in every other round both have
        read the same version and save it, in the others both append to whatever is current."""
        taken, late = [], []
        for number in range(rounds):
            clip: dict[str, Any] = {"id": f"{editor}{number}", **GAP}
            current = table.find(account, project.id)
            together.wait(timeout=60)
            try:
                if number % 2:
                    append = Append(type="append", track=0, clip=clip)
                    edit.operate(project.id, [append], request(account), versions=None)
                else:
                    clips = [*current.document["timeline"]["tracks"][0].get("clips", []), clip]
                    edit.put(project.id, document(*clips), request(account), versions={current.version})
                taken.append(clip["id"])
            except PreconditionFailed:
                late.append(number)
            together.wait(timeout=60)
        return taken, late

    with ThreadPoolExecutor(2) as pool:
        (ones, late), (others, also_late) = pool.map(edits, ("a", "b"))

    found = table.find(account, project.id)
    clips = [clip["id"] for clip in found.document["timeline"]["tracks"][0]["clips"]]
    assert sorted(clips) == sorted([*ones, *others])
    assert sorted([*late, *also_late]) == list(range(0, rounds, 2))
    assert found.version == 1 + len(clips) == 151


def test_operations_are_done_all_or_none(account: str) -> None:
    project = made(account, GAP)
    both: list[Operation] = [Split(type="split", clip="c1", at=1), RippleDelete(type="ripple-delete", clip="nobody")]

    with pytest.raises(Invalid) as refused:
        edit.operate(project.id, both, request(account), versions=None)

    assert refused.value.errors == [{"pointer": "/operations/1/clip", "detail": "there is no such clip"}]
    assert table.find(account, project.id) == project


def test_operations_for_a_version_that_is_not_current_are_refused(account: str) -> None:
    project = made(account, GAP)
    saved(project, "Two")

    with pytest.raises(PreconditionFailed):
        edit.operate(project.id, [Split(type="split", clip="c1", at=1)], request(account), versions={1})


def test_a_repeated_request_is_done_once(account: str) -> None:
    first, again = (edit.create(document(GAP), request(account, "create", "key", "body")) for _ in range(2))
    told = [Split(type="split", clip="c1", at=1)]
    done, repeated = (
        edit.operate(first[0].id, told, request(account, "operate", "key", "x"), versions=None) for _ in range(2)
    )
    edit.operate(first[0].id, [Split(type="split", clip="c1", at=0.5)], request(account, "operate"), versions=None)
    late = edit.operate(first[0].id, told, request(account, "operate", "key", "x"), versions=None)

    assert ([first[1], again[1]], first[0]) == ([False, True], again[0])
    assert ([done[1], repeated[1], late[1]], done[0]) == ([False, True, True], repeated[0])
    assert (late[0].version, late[0].document) == (2, done[0].document)
    assert table.find(account, first[0].id).version == 3
    with pytest.raises(Invalid) as reused:
        edit.create(document(GAP), request(account, "create", "key", "another body"))
    assert reused.value.code == "idempotency_key_reused"


def test_the_last_fifty_versions_are_kept(account: str) -> None:
    project = made(account, title="1")
    for number in range(2, 54):
        project = saved(project, str(number))

    first, cursor = table.versions(account, project.id, limit=30, cursor=None)
    rest, end = table.versions(account, project.id, limit=30, cursor=cursor)

    assert [version.version for version in first + rest] == list(range(53, 3, -1))
    assert [version.title for version in rest[-1:]] == ["4"]
    assert end is None
    assert table.version_of(account, project.id, 4).summary.title == "4"
    for gone in (3, 54, 0):
        with pytest.raises(NotFound):
            table.version_of(account, project.id, gone)


def test_a_restored_version_is_the_next_one(account: str) -> None:
    project = made(account, GAP, title="First")
    saved(project, "Second")

    restored, _ = edit.restore(project.id, 1, request(account), versions=None)

    assert (restored.version, restored.document) == (3, project.document)
    assert table.versions(account, project.id, limit=1, cursor=None)[0][0].restored == 1


def test_a_duplicate_goes_its_own_way(account: str) -> None:
    project = made(account, GAP)

    copy, _ = edit.duplicate(project.id, None, request(account))
    saved(copy, "Changed")

    assert (copy.version, copy.summary.title) == (1, "A film (copy)")
    assert copy.document["timeline"] == project.document["timeline"]
    assert table.find(account, project.id) == project


def test_a_large_document_is_kept_in_the_bucket_and_read_like_any_other(account: str) -> None:
    texts = [{"text": "x" * 4000, "start": number, "duration": 1} for number in range(200)]
    large = check.parse({"title": "Large", "timeline": {"tracks": [{"type": "text", "clips": texts}]}})

    project, _ = edit.create(large, request(account))
    found = table.find(account, project.id)

    assert len(json.dumps(found.document)) > 800_000
    assert found == project
    assert len(objects(project.id)) == 1
    with pytest.raises(PreconditionFailed):
        table.save(
            table.Summary(**{**vars(project.summary), "version": 7}),
            table.Draft(project.document, 200, 200.0, ()),
            request(account),
        )
    assert len(objects(project.id)) == 1
    table.delete(account, project.id, 1, now())
    assert objects(project.id) == []


def test_a_project_that_is_deleted_while_it_is_read_is_not_found(account: str) -> None:
    texts = [{"text": "x" * 5000, "start": number, "duration": 1} for number in range(61)]
    large = check.parse({"title": "Large", "timeline": {"tracks": [{"type": "text", "clips": texts}]}})
    project, _ = edit.create(large, request(account))

    def delete(**_: Any) -> None:
        aws.s3().meta.events.unregister("before-call.s3.GetObject", delete)
        table.delete(account, project.id, 1, now())

    aws.s3().meta.events.register("before-call.s3.GetObject", delete)

    with pytest.raises(NotFound):
        table.find(account, project.id)


def test_a_deleted_project_is_gone_and_so_is_its_history(account: str) -> None:
    project = made(account, title="1")
    project = saved(project, "2")

    with pytest.raises(PreconditionFailed):
        table.delete(account, project.id, 1, now())
    table.delete(account, project.id, 2, now())

    assert table.page(account, limit=10, cursor=None) == ([], None)
    gone: list[Callable[[], object]] = [
        lambda: table.find(account, project.id),
        lambda: table.versions(account, project.id, limit=1, cursor=None),
        lambda: saved(project, "3"),
        lambda: table.delete(account, project.id, 2, now()),
    ]
    for look in gone:
        with pytest.raises(NotFound):
            look()


def test_projects_are_listed_newest_first(account: str) -> None:
    projects = [made(account, title=str(number)) for number in range(3)]

    first, cursor = table.page(account, limit=2, cursor=None)
    rest, end = table.page(account, limit=2, cursor=cursor)

    assert [one.id for one in first + rest] == [one.id for one in reversed(projects)]
    assert end is None


@pytest.fixture
def film(account: str) -> str:
    return asset(account, "video/mp4", 4.2)


def test_a_project_is_checked_against_its_assets(account: str, film: str) -> None:
    with pytest.raises(Invalid) as refused:
        made(account, {"asset": film, "out": 5}, {"asset": "as_0", "out": 1})

    assert refused.value.errors == [
        {"pointer": "/timeline/tracks/0/clips/1/asset", "detail": "there is no such asset"},
        {"pointer": "/timeline/tracks/0/clips/0/out", "detail": "past the end of the asset, 4.2 s"},
    ]


def test_an_asset_of_somebody_else_is_none(account: str) -> None:
    with pytest.raises(Invalid):
        made(account, {"asset": asset("somebody", "video/mp4", 9.0), "out": 1})


def test_projects_that_use_an_asset_are_found_and_show_it_as_missing_when_it_is_gone(account: str, film: str) -> None:
    project = made(account, {"asset": film})
    made(account, GAP)

    assert project.document["timeline"]["tracks"][0]["clips"][0]["out"] == 4.2
    assert usage.of_asset(film) == [project.id]
    assert edit.missing(project) == []
    item = dynamo.get(settings().assets_table, {"id": film}) or {}
    dynamo.save(settings().assets_table, {**item, "deleted_at": "2026"})
    assert edit.missing(project) == [film]
    told = [Split(type="split", clip="c1", at=1)]
    assert edit.operate(project.id, told, request(account), versions=None)[0].version == 2


def test_what_is_rendered_has_values_for_variables_and_names_those_that_are_unknown_or_missing(
    account: str, film: str
) -> None:
    variables = {
        "name": {"type": "text"},
        "film": {"type": "asset", "default": film},
        "length": {"type": "number", "default": 1},
    }
    clip = {"id": "a", "asset": "{{film}}", "duration": "{{length}}"}
    text = {"text": "Hello {{name}}", "start": 0, "duration": 1}
    tracks = [{"type": "video", "clips": [clip]}, {"type": "text", "clips": [text]}]
    told = check.parse({"title": "For {{name}}", "timeline": {"tracks": tracks}, "variables": variables})

    shown = timeline.written(edit.resolved(told, {"name": "<b>{{film}}</b>"}, account).timeline)["tracks"]

    assert shown[0]["clips"] == [{"id": "a", "asset": film, "out": 1.0}]
    assert shown[1]["clips"][0]["text"] == "Hello <b>{{film}}</b>"
    for values, flaws in (
        ({}, {"/variables/name": "the variable 'name' needs a value"}),
        ({"name": "x", "nome": "y"}, {"/variables/nome": "there is no variable 'nome'"}),
        ({"name": "x", "length": 9}, {"/timeline/tracks/0/clips/0/out": "past the end of the asset, 4.2 s"}),
        ({"name": "x", "film": "as_0"}, {"/timeline/tracks/0/clips/0/asset": "there is no such asset"}),
    ):
        with pytest.raises(Invalid) as refused:
            edit.resolved(told, values, account)
        assert {flaw["pointer"]: flaw["detail"] for flaw in refused.value.errors} == flaws
