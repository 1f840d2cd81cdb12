"""The library: what an account has, found, named, kept, deleted, taken back and downloaded, by nobody else."""

from collections.abc import Callable, Iterator
from functools import partial
from urllib.parse import quote
from uuid import uuid4

import pytest

from local.cloud import Stack
from tests import corpus
from tests.e2e.helpers import at_once, check_problem, eventually, pointers
from tests.e2e.uploading import in_library, uploaded, web
from tests.support import Json, Studio

NewStudio = Callable[..., Studio]

CAPTIONS = b"WEBVTT\n\n00:01.000 --> 00:02.500\nHello\n"


def listed(studio: Studio, **query: str | int) -> list[Json]:
    """Every asset that is shown, page by page."""
    found: list[Json] = []
    while True:
        answer = studio.http.get("/assets", params=query)
        assert answer.status_code == 200, answer.text
        found += answer.json()["items"]
        if answer.json()["next_cursor"] is None:
            return found
        query["cursor"] = answer.json()["next_cursor"]


def ids(assets: list[Json]) -> list[str]:
    return [asset["id"] for asset in assets]


def project(studio: Studio, asset: Json) -> Json:
    """A project that uses it."""
    clips = [{"asset": asset["id"], "duration": 3}]
    body = {"title": "Harbour", "timeline": {"fps": 30, "tracks": [{"type": "video", "clips": clips}]}}
    answer = studio.http.post("/projects", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


# A library that is only read: made once.


@pytest.fixture(scope="module")
def owner(stack: Stack) -> Iterator[Studio]:
    studio = Studio(stack, f"library-{uuid4().hex[:12]}")
    studio.grant(100)
    yield studio
    studio.close()


@pytest.fixture(scope="module")
def shelf(owner: Studio) -> dict[str, Json]:
    """By the name of each, oldest first."""
    made = {
        "film": in_library(owner, "no audio", "Der Hafen, früh.mp4"),
        "logo": in_library(owner, "alpha PNG", "LOGO hafen"),
        "voice": in_library(owner, "FLAC"),
        "captions": uploaded(owner, CAPTIONS, "text/vtt")["asset"],
        "picture": owner.run("a lighthouse over the Hafen at dawn")["assets"][0],
    }
    tagged = owner.http.patch(f"/assets/{made['logo']['id']}", json={"tags": ["brand", "brand", "2026"]})
    assert tagged.json()["tags"] == ["brand", "2026"]
    return made


def test_uploads_and_generations_are_one_list_newest_first(owner: Studio, shelf: dict[str, Json]) -> None:
    found = listed(owner)

    assert ids(found) == [asset["id"] for asset in reversed(shelf.values())]
    assert [asset["source"] for asset in found] == ["generation", *["upload"] * 4]
    assert found[0]["prompt"] == "a lighthouse over the Hafen at dawn"
    assert found[0]["kind"] == "image"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"kind": "image"}, ["picture", "logo"]),
        ({"kind": "video"}, ["film"]),
        ({"kind": "captions"}, ["captions"]),
        ({"source": "upload"}, ["captions", "voice", "logo", "film"]),
        ({"source": "generation"}, ["picture"]),
        ({"source": "stock"}, []),
        ({"tag": "brand"}, ["logo"]),
        ({"tag": "bran"}, []),
        ({"query": "hafen"}, ["picture", "logo", "film"]),
        ({"query": "HAFEN früh"}, ["film"]),
        ({"query": "lighthouse dawn"}, ["picture"]),
        ({"query": "nothing of this"}, []),
        ({"query": "hafen", "kind": "image", "source": "upload"}, ["logo"]),
        ({"deleted": "true"}, []),
    ],
)
@pytest.mark.parametrize("limit", [1, 100])
def test_a_list_shows_what_matches_all_that_is_asked_for(
    owner: Studio, shelf: dict[str, Json], query: dict[str, str], expected: list[str], limit: int
) -> None:
    assert ids(listed(owner, **query, limit=limit)) == [shelf[name]["id"] for name in expected]


@pytest.mark.parametrize(
    ("query", "where"),
    [({"source": "nowhere"}, "?source"), ({"limit": "0"}, "?limit"), ({"deleted": "perhaps"}, "?deleted")],
)
def test_a_list_that_cannot_be_asked_for_says_why(owner: Studio, query: dict[str, str], where: str) -> None:
    assert pointers(owner.http.get("/assets", params=query)) == {where}


def test_a_cursor_opens_nothing_of_somebody_elses(owner: Studio, shelf: dict[str, Json], new_studio: NewStudio) -> None:
    cursor = owner.http.get("/assets", params={"limit": 1}).json()["next_cursor"]
    stranger = new_studio(credits=0)

    for query in ({}, {"query": "hafen"}, {"deleted": "true"}):
        answer = stranger.http.get("/assets", params={**query, "cursor": cursor})
        assert answer.json() == {"items": [], "next_cursor": None}
    check_problem(owner.http.get("/assets", params={"cursor": "made-up"}), 400, "bad_cursor")


def test_a_second_account_finds_nothing_of_it(owner: Studio, shelf: dict[str, Json], new_studio: NewStudio) -> None:
    stranger = new_studio(credits=0)
    paths = [
        ("GET", "", None),
        ("PATCH", "", {"name": "mine"}),
        ("DELETE", "", None),
        ("DELETE", "?force=true", None),
        ("POST", "/restore", None),
        ("GET", "/content", None),
        ("GET", "/content?disposition=attachment", None),
    ]

    for asset in shelf.values():
        for method, path, body in paths:
            answer = stranger.http.request(method, f"/assets/{asset['id']}{path}", json=body)
            check_problem(answer, 404, "not_found")
    assert stranger.http.get("/storage").json()["files"] == 0
    assert len(listed(owner)) == len(shelf)


# Downloads


@pytest.mark.parametrize(
    ("disposition", "how"), [({}, "inline"), ({"disposition": "attachment"}, "attachment")], ids=["inline", "to keep"]
)
def test_a_download_has_the_name_of_the_file_and_can_go_on_where_it_broke_off(
    owner: Studio, shelf: dict[str, Json], disposition: dict[str, str], how: str
) -> None:
    whole = corpus.make("no audio")

    answer = owner.http.get(f"/assets/{shelf['film']['id']}/content", params=disposition)
    url = answer.headers["location"]
    first, rest = (web.get(url, headers={"range": span}) for span in ("bytes=0-999", "bytes=1000-"))
    beyond = web.get(url, headers={"range": f"bytes={len(whole)}-"})

    assert answer.status_code == 302
    assert (first.status_code, rest.status_code, beyond.status_code) == (206, 206, 416)
    assert first.headers["content-range"] == f"bytes 0-999/{len(whole)}"
    assert first.headers["etag"] == rest.headers["etag"]
    assert first.content + rest.content == whole
    assert first.headers["content-type"] == "video/mp4"
    named = f"{how}; filename=\"Der Hafen, fr_h.mp4\"; filename*=UTF-8''{quote('Der Hafen, früh.mp4')}"
    assert first.headers["content-disposition"] == named


def test_a_file_without_a_name_is_called_what_it_is(owner: Studio, shelf: dict[str, Json]) -> None:
    def disposition(name: str) -> str:
        url = owner.http.get(f"/assets/{shelf[name]['id']}/content").headers["location"]
        return web.get(url).headers["content-disposition"]

    assert disposition("voice") == "inline; filename=\"audio.flac\"; filename*=UTF-8''audio.flac"
    assert disposition("picture") == "inline; filename=\"image.png\"; filename*=UTF-8''image.png"


# Changes


def test_a_name_and_tags_are_changed_and_told(studio: Studio) -> None:
    asset = in_library(studio, "alpha PNG", "before")

    changed = studio.http.patch(f"/assets/{asset['id']}", json={"name": "шапка.png", "tags": ["a", "b"]}).json()
    again = studio.http.patch(f"/assets/{asset['id']}", json={"tags": []}).json()

    assert (changed["name"], changed["tags"]) == ("шапка.png", ["a", "b"])
    assert (again["name"], again["tags"]) == ("шапка.png", [])
    assert ids(listed(studio, query="ШАПКА")) == [asset["id"]]
    headers = web.get(studio.http.get(f"/assets/{asset['id']}/content").headers["location"]).headers
    assert headers["content-disposition"].endswith(f"filename*=UTF-8''{quote('шапка.png')}")


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"name": ""}, "/name"),
        ({"name": "x" * 201}, "/name"),
        ({"name": 5}, "/name"),
        ({"tags": ["x" * 51]}, "/tags/0"),
        ({"tags": [str(number) for number in range(21)]}, "/tags"),
        ({"account": "mine"}, "/account"),
    ],
)
def test_a_change_that_cannot_be_made_says_why(owner: Studio, shelf: dict[str, Json], body: Json, where: str) -> None:
    assert pointers(owner.http.patch(f"/assets/{shelf['film']['id']}", json=body)) == {where}


def test_what_projects_use_is_deleted_only_by_force_and_comes_back_whole(studio: Studio) -> None:
    asset = in_library(studio, "alpha PNG")
    projects = [project(studio, asset), project(studio, asset)]

    refused = studio.http.delete(f"/assets/{asset['id']}")
    assert set(check_problem(refused, 409, "asset_in_use")["projects"]) == {each["id"] for each in projects}
    assert studio.http.delete(f"/assets/{asset['id']}", params={"force": "true"}).status_code == 204

    check_problem(studio.http.get(f"/assets/{asset['id']}"), 404, "not_found")
    check_problem(studio.http.delete(f"/assets/{asset['id']}"), 404, "not_found")
    check_problem(studio.http.patch(f"/assets/{asset['id']}", json={"name": "x"}), 404, "not_found")
    assert listed(studio) == []
    (lying,) = listed(studio, deleted="true")
    assert (lying["id"], lying["deleted_at"] is not None) == (asset["id"], True)
    for each in projects:
        assert studio.http.get(f"/projects/{each['id']}").json()["missing_assets"] == [asset["id"]]

    restored = [studio.http.post(f"/assets/{asset['id']}/restore") for _ in range(2)]

    assert [answer.status_code for answer in restored] == [200, 200]
    assert ids(listed(studio)) == [asset["id"]]
    assert listed(studio, deleted="true") == []
    for each in projects:
        assert studio.http.get(f"/projects/{each['id']}").json()["missing_assets"] == []


def test_what_is_stored_is_counted_once_however_often_it_is_deleted_and_restored(studio: Studio) -> None:
    assets = at_once([partial(in_library, studio, "alpha PNG") for _ in range(3)])
    size = len(corpus.make("alpha PNG"))
    before = studio.http.get("/storage").json()

    deletions = at_once([lambda: studio.http.delete(f"/assets/{assets[0]['id']}").status_code] * 6)
    after = studio.http.get("/storage").json()
    restorations = at_once([lambda: studio.http.post(f"/assets/{assets[0]['id']}/restore").status_code] * 6)

    assert (before["bytes"], before["files"]) == (3 * size, 3)
    assert sorted(deletions) == [204, *[404] * 5]
    assert (after["bytes"], after["files"]) == (2 * size, 2)
    # Who comes too late for the restoration finds it restored.
    assert set(restorations) <= {200, 404}
    assert 200 in restorations
    assert studio.http.get("/storage").json() == before


def test_the_audit_tells_who_has_named_deleted_and_restored_it(studio: Studio, new_studio: NewStudio) -> None:
    asset = in_library(studio, "alpha PNG")
    resource = {"resource": f"asset/{asset['id']}", "limit": 100}
    assert studio.http.patch(f"/assets/{asset['id']}", json={"name": "logo"}).status_code == 200
    assert studio.http.delete(f"/assets/{asset['id']}").status_code == 204
    assert studio.http.post(f"/assets/{asset['id']}/restore").status_code == 200

    def told() -> list[Json] | None:
        found = studio.http.get("/audit", params=resource).json()["items"][::-1]
        gone = [entry["changes"]["deleted_at"]["after"] for entry in found if "deleted_at" in entry["changes"]]
        return found if len(gone) == 2 else None

    entries = eventually(told, timeout=30, what="the asset in the audit")

    by_owner = [entry for entry in entries if entry["actor"] == studio.account]
    assert [entry["changes"].get("name", {}).get("after") for entry in by_owner] == ["logo", None, None]
    assert by_owner[1]["changes"]["deleted_at"]["before"] is None
    assert by_owner[2]["changes"]["deleted_at"]["after"] is None
    assert {entry["actor"] for entry in entries} == {studio.account, "system:inspection"}
    assert new_studio(credits=0).http.get("/audit", params=resource).json()["items"] == []
