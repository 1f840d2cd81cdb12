"""Projects through the API: saved by version, told precisely what is wrong, changed by several at once, kept whole."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import uuid4

import httpx
import pytest

from local.cloud import Stack
from tests.e2e.helpers import at_once, check_problem, eventually, pointers
from tests.e2e.uploading import in_library, keys
from tests.support import Json, Studio

GAP = {"gap": True, "duration": 2}
MOST_BYTES = 2 * 1024 * 1024
LAMBDAS_ANSWER = 6 * 1024 * 1024


@dataclass(frozen=True)
class Desk:
    """An account with a film of 2 s, a sound of 2 s and a picture."""

    studio: Studio
    film: str
    sound: str
    picture: str


@pytest.fixture(scope="module")
def desk(stack: Stack) -> Iterator[Desk]:
    studio = Studio(stack, f"projects-{uuid4().hex[:12]}")
    film, sound, picture = at_once(
        [partial(in_library, studio, sample) for sample in ("mono", "no silence", "alpha PNG")]
    )
    yield Desk(studio, film["id"], sound["id"], picture["id"])
    studio.close()


@pytest.fixture
def other(stack: Stack) -> Iterator[Studio]:
    """Somebody else."""
    studio = Studio(stack, f"test-{uuid4().hex[:12]}")
    yield studio
    studio.close()


def document(*clips: Json, title: str = "Harbour", **more: Any) -> Json:
    return {"title": title, "timeline": {"tracks": [{"type": "video", "clips": list(clips)}]}, **more}


def made(studio: Studio, body: Json) -> Json:
    answer = studio.http.post("/projects", json=body)
    assert answer.status_code == 201, answer.text
    assert answer.headers["etag"] == '"1"'
    return dict(answer.json())


def found(studio: Studio, project: Json) -> Json:
    answer = studio.http.get(f"/projects/{project['id']}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["etag"] == f'"{answer.json()["version"]}"'
    return dict(answer.json())


def put(studio: Studio, project: Json, body: Json, match: str | None = None) -> httpx.Response:
    """Save a document for this version of the project, or for whatever `match` says."""
    tag = f'"{project["version"]}"' if match is None else match
    return studio.http.put(f"/projects/{project['id']}", json=body, headers={"if-match": tag})


def operate(studio: Studio, project: Json, *told: Json, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return studio.http.post(f"/projects/{project['id']}/operations", json={"operations": list(told)}, headers=named)


def clips(project: Json, track: int = 0) -> list[Json]:
    return list(project["timeline"]["tracks"][track].get("clips", []))


def ids(project: Json, track: int = 0) -> list[str]:
    return [clip["id"] for clip in clips(project, track)]


# Saving


def test_a_project_is_given_back_as_it_was_saved_with_what_its_assets_tell(desk: Desk) -> None:
    body = document(
        {"id": "film", "asset": desk.film, "in": 0.5, "transition": {"type": "crossfade", "duration": 0.5}},
        {"asset": desk.picture, "duration": 3},
        variables={"name": {"type": "text", "default": "you"}},
        output={"format": "webm"},
    )

    project = made(desk.studio, body)

    assert found(desk.studio, project) == project
    assert clips(project) == [
        {**body["timeline"]["tracks"][0]["clips"][0], "out": 2.0, "transition": {"duration": 0.5}},
        {"id": "c1", **body["timeline"]["tracks"][0]["clips"][1]},
    ]
    assert (project["variables"], project["output"]) == (body["variables"], body["output"])
    assert (project["clips"], project["duration_s"], project["missing_assets"]) == (2, 4.0, [])
    (listed, *_) = desk.studio.http.get("/projects", params={"limit": 1}).json()["items"]
    assert listed == {name: project[name] for name in listed}


def test_a_save_says_which_version_it_is_made_for(desk: Desk) -> None:
    project = made(desk.studio, document(title="One"))
    path = f"/projects/{project['id']}"

    second = put(desk.studio, project, document(title="Two"))
    late = put(desk.studio, project, document(title="Late"))
    unsaid = desk.studio.http.put(path, json=document(title="Unsaid"))
    weak = put(desk.studio, project, document(title="Weak"), match='W/"2"')
    third = put(desk.studio, project, document(title="Three"), match='"7", "2"')
    fourth = put(desk.studio, project, document(title="Four"), match="*")

    assert (second.status_code, second.json()["version"], second.headers["etag"]) == (200, 2, '"2"')
    assert check_problem(late, 412, "stale")["version"] == 2
    check_problem(unsaid, 428, "if_match_required")
    check_problem(weak, 412, "stale")
    assert [answer.json()["title"] for answer in (third, fourth)] == ["Three", "Four"]
    assert found(desk.studio, project)["title"] == "Four"


def test_a_deletion_says_which_version_it_is_made_for_and_leaves_nothing(desk: Desk) -> None:
    project = made(desk.studio, document(title="1"))
    path = f"/projects/{project['id']}"

    check_problem(desk.studio.http.delete(path), 428, "if_match_required")
    check_problem(desk.studio.http.delete(path, headers={"if-match": '"2"'}), 412, "stale")
    assert desk.studio.http.delete(path, headers={"if-match": '"1"'}).status_code == 204

    check_problem(desk.studio.http.delete(path, headers={"if-match": '"1"'}), 404, "not_found")
    for answer in (desk.studio.http.get(path), desk.studio.http.get(f"{path}/versions"), put(desk.studio, project, {})):
        assert answer.status_code in (404, 422)
    check_problem(put(desk.studio, project, document()), 404, "not_found")
    shown = desk.studio.http.get("/projects", params={"limit": 100}).json()["items"]
    assert project["id"] not in {one["id"] for one in shown}


def test_of_those_who_save_one_version_at_once_one_is_taken_and_of_those_who_operate_all(desk: Desk) -> None:
    project = made(desk.studio, document())

    saves = at_once([partial(put, desk.studio, project, document(title=f"By {number}")) for number in range(5)])
    told = [{"type": "append", "track": 0, "clip": {"id": f"n{number}", **GAP}} for number in range(12)]
    answers = at_once([partial(operate, desk.studio, project, operation) for operation in told], workers=4)

    taken = [number for number, answer in enumerate(saves) if answer.status_code == 200]
    assert len(taken) == 1
    for number, answer in enumerate(saves):
        if number not in taken:
            check_problem(answer, 412, "stale")
    assert [answer.status_code for answer in answers] == [200] * 12
    assert sorted(answer.json()["version"] for answer in answers) == list(range(3, 15))
    after = found(desk.studio, project)
    assert (after["title"], after["version"]) == (f"By {taken[0]}", 14)
    assert sorted(ids(after)) == sorted(f"n{number}" for number in range(12))


def test_a_repeated_request_is_answered_and_not_done_again(desk: Desk) -> None:
    key = {"idempotency-key": uuid4().hex}
    first, again = (desk.studio.http.post("/projects", json=document(GAP), headers=key) for _ in range(2))
    split = {"type": "split", "clip": "c1", "at": 1}
    done, repeated = (
        operate(desk.studio, first.json(), split, idempotency_key=key["idempotency-key"]) for _ in range(2)
    )
    other = operate(desk.studio, first.json(), {**split, "at": 0.5}, idempotency_key=key["idempotency-key"])

    assert (first.json(), again.headers["idempotency-replayed"]) == (again.json(), "true")
    assert (done.json(), repeated.headers["idempotency-replayed"]) == (repeated.json(), "true")
    assert ids(found(desk.studio, first.json())) == ["c1", "c2"]
    check_problem(other, 422, "idempotency_key_reused")


# What is wrong, and where


def flaws(answer: httpx.Response) -> dict[str, str]:
    errors = check_problem(answer, 422, "invalid_request")["errors"]
    return {error["pointer"]: error["detail"] for error in errors}


def test_every_flaw_is_told_with_its_place(desk: Desk) -> None:
    cut = {"asset": desk.film, "in": 0, "out": 1}
    body = document(
        cut,
        {"asset": desk.film, "in": 1, "out": 4.2},
        {"asset": "as_nobody", "out": 1},
        {**cut, "transition": {"type": "crossfade", "duration": 3}},
        {"asset": desk.sound, "out": 1},
        {"asset": desk.picture, "duration": 1, "transition": {"type": "fade", "duration": 0.1}},
    )
    body["timeline"]["tracks"].append({"type": "audio", "clips": [{"asset": desk.picture, "start": 0, "duration": 1}]})
    body["timeline"]["watermark"] = {"asset": desk.film}

    told = flaws(desk.studio.http.post("/projects", json=body))

    assert told == {
        "/timeline/tracks/0/clips/1/out": "past the end of the asset, 2 s",
        "/timeline/tracks/0/clips/2/asset": "there is no such asset",
        "/timeline/tracks/0/clips/3/transition/duration": "longer than the clip has room for, 1 s",
        "/timeline/tracks/0/clips/4/asset": "is of the kind audio, which has no picture",
        "/timeline/tracks/0/clips/5/transition": "there is no clip after this one",
        "/timeline/tracks/1/clips/0/asset": "is of the kind image, which has no sound",
        "/timeline/watermark/asset": "is of the kind video, not image",
    }


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"timeline": {}}, "/title"),
        (document({"gap": True, "duration": "2"}), "/timeline/tracks/0/clips/0/duration"),
        (document({"gap": True, "duration": 2, "speed": 99}), "/timeline/tracks/0/clips/0/speed"),
        (document({"gap": True, "duration": 2, "wobble": 1}), "/timeline/tracks/0/clips/0/wobble"),
        (document(GAP, output={"format": "avi"}), "/output/format"),
        (document(GAP, output={"range": {"start": 0, "end": 3}}), "/output/range/end"),
        (document({"id": "a", **GAP}, {"id": "a", **GAP}), "/timeline/tracks/0/clips/1/id"),
        ({"title": "t", "timeline": {"tracks": [{"type": "hologram"}]}}, "/timeline/tracks/0"),
        ({"title": "t", "timeline": {"tracks": [{"type": "video"}] * 2}}, "/timeline/tracks/1/type"),
    ],
)
def test_a_flaw_of_a_document_has_a_pointer_when_it_is_made_and_when_it_is_saved(
    desk: Desk, body: Json, where: str
) -> None:
    project = made(desk.studio, document())

    assert pointers(desk.studio.http.post("/projects", json=body)) == {where}
    assert pointers(put(desk.studio, project, body)) == {where}
    assert found(desk.studio, project) == project


def test_a_variable_that_is_unknown_or_does_not_fit_is_named(desk: Desk) -> None:
    text = {"text": "{{greeting}} {{name}}", "start": 0, "duration": "{{name}}"}
    body = {
        "title": "t",
        "timeline": {"tracks": [{"type": "text", "clips": [text]}]},
        "variables": {"name": {"type": "text"}, "size": {"type": "number", "default": "large"}},
    }

    told = flaws(desk.studio.http.post("/projects", json=body))

    assert told == {
        "/variables/size/default": "must be a number",
        "/timeline/tracks/0/clips/0/text": "there is no variable 'greeting'",
        "/timeline/tracks/0/clips/0/duration": "the variable 'name' is of the type text, not number",
    }


def test_a_length_that_is_a_variable_stays_open_until_it_has_a_value(desk: Desk) -> None:
    variables = {"length": {"type": "number"}, "film": {"type": "asset", "default": desk.film}}
    project = made(
        desk.studio,
        document({"gap": True, "duration": "{{length}}"}, {"asset": "{{film}}", "out": 1}, variables=variables),
    )

    split = operate(desk.studio, project, {"type": "split", "clip": "c2", "at": 1})
    variables["length"]["default"] = 4  # type: ignore[assignment]
    saved = put(desk.studio, project, {**document(*clips(project)), "variables": variables})

    assert project["duration_s"] is None
    assert flaws(split) == {"/operations/0": "the variable 'length' has no default to reckon with"}
    assert saved.json()["duration_s"] == 5


# Operations


def test_every_operation_changes_the_timeline_as_it_is_now(desk: Desk) -> None:
    project = made(desk.studio, document({"id": "a", "asset": desk.film, "out": 2}, {"id": "b", **GAP}))

    answer = operate(
        desk.studio,
        project,
        {"type": "append", "track": 0, "clip": {"id": "d", "asset": desk.picture, "duration": 4}},
        {"type": "append", "new_track": "text", "clip": {"id": "t", "text": "Late", "start": 5, "duration": 1}},
        {"type": "split", "clip": "a", "at": 0.5},
        {"type": "trim", "clip": "d", "duration": 3},
        {"type": "ripple-delete", "clip": "b"},
        {"type": "move", "clip": "d", "to": 0},
        {"type": "set-transition", "clip": "d", "transition": {"type": "wipeleft", "duration": 0.25}},
        {"type": "replace-asset", "clip": "c1", "asset": desk.picture, "duration": 1},
    )

    after = answer.json()
    assert (answer.status_code, after["version"], after) == (200, 2, found(desk.studio, project))
    assert clips(after) == [
        {
            "id": "d",
            "asset": desk.picture,
            "duration": 3.0,
            "transition": {"type": "wipeleft", "duration": 0.25},
        },
        {"id": "a", "asset": desk.film, "out": 0.5},
        {"id": "c1", "asset": desk.picture, "duration": 1.0},
    ]
    # Two seconds were taken out before it, and the transition lets what follows begin a quarter of a second earlier.
    assert clips(after, 1) == [{"id": "t", "text": "Late", "start": 2.75, "duration": 1.0}]
    assert after["duration_s"] == 4.25


def test_operations_are_done_all_or_none_and_the_one_that_cannot_be_done_is_named(desk: Desk) -> None:
    project = made(desk.studio, document({"id": "a", "asset": desk.film, "out": 1}))
    good = {"type": "append", "track": 0, "clip": GAP}

    told: dict[str, Json] = {
        "/operations/1/clip": {"type": "ripple-delete", "clip": "nobody"},
        "/operations/1/at": {"type": "split", "clip": "a", "at": 1},
        "/operations/1/track": {"type": "append", "track": 7, "clip": GAP},
        "/operations/1/clip/duration": {"type": "append", "track": 0, "clip": {"gap": True, "duration": -1}},
        "/operations/1/to": {"type": "move", "clip": "a", "to": 9},
        "/operations/1/transition/type": {
            "type": "set-transition",
            "clip": "a",
            "transition": {"type": "teleport", "duration": 1},
        },
        "/operations/1": {"type": "explode", "clip": "a"},
        "/timeline/tracks/0/clips/0/out": {"type": "trim", "clip": "a", "out": 3},
        "/timeline/tracks/0/clips/0/asset": {"type": "replace-asset", "clip": "a", "asset": "as_nobody"},
    }

    for where, operation in told.items():
        assert pointers(operate(desk.studio, project, good, operation)) == {where}
    assert found(desk.studio, project) == project


def test_operations_can_be_meant_for_one_version_only(desk: Desk) -> None:
    project = made(desk.studio, document({"id": "a", **GAP}))
    split = {"type": "split", "clip": "a", "at": 1}

    done = operate(desk.studio, project, split, if_match='"1"')
    late = operate(desk.studio, project, split, if_match='"1"')

    assert done.status_code == 200
    assert check_problem(late, 412, "stale")["version"] == 2
    assert len(clips(found(desk.studio, project))) == 2


# History and copies


def test_the_last_fifty_versions_are_there_and_each_can_be_the_next_one(desk: Desk) -> None:
    project = made(desk.studio, document(GAP, title="1"))
    for number in range(2, 53):
        answer = put(desk.studio, project, document(GAP, title=str(number)), match=f'"{number - 1}"')
        assert answer.status_code == 200, answer.text
    path = f"/projects/{project['id']}/versions"

    first = desk.studio.http.get(path, params={"limit": 40}).json()
    rest = desk.studio.http.get(path, params={"limit": 40, "cursor": first["next_cursor"]}).json()
    restored = desk.studio.http.post(f"{path}/3/restore", headers={"if-match": '"52"'})
    late = desk.studio.http.post(f"{path}/9/restore", headers={"if-match": '"52"'})

    told = first["items"] + rest["items"]
    assert [version["version"] for version in told] == list(range(52, 2, -1))
    assert (told[-1]["title"], told[-1]["saved_by"], rest["next_cursor"]) == ("3", desk.studio.account, None)
    assert (restored.json()["version"], restored.json()["title"]) == (53, "3")
    check_problem(late, 412, "stale")
    assert desk.studio.http.get(path, params={"limit": 1}).json()["items"][0]["restored"] == 3
    assert desk.studio.http.get(f"{path}/52").json()["title"] == "52"
    for gone in (2, 3, 54):
        check_problem(desk.studio.http.get(f"{path}/{gone}"), 404, "not_found")
        check_problem(desk.studio.http.post(f"{path}/{gone}/restore"), 404, "not_found")


def test_a_copy_has_a_history_of_its_own(desk: Desk) -> None:
    project = made(desk.studio, document({"asset": desk.film, "out": 1}))
    path = f"/projects/{project['id']}/duplicate"

    copy = desk.studio.http.post(path, json={"title": "For Anna"})
    named = desk.studio.http.post(path, json={})
    assert put(desk.studio, copy.json(), document(title="Changed")).status_code == 200

    assert (copy.status_code, copy.json()["version"], copy.json()["title"]) == (201, 1, "For Anna")
    assert named.json()["title"] == "Harbour (copy)"
    assert copy.json()["timeline"] == project["timeline"]
    assert found(desk.studio, project) == project


# Large ones


def test_a_thousand_clips_are_a_project_like_any_other_and_lie_in_the_bucket(desk: Desk) -> None:
    texts = [{"text": f"{number} " + "ä" * 200, "start": number, "duration": 1} for number in range(999)]
    body = document({"id": "a", **GAP})
    body["timeline"]["tracks"].append({"type": "text", "clips": texts})
    extra = {"type": "append", "track": 0, "clip": GAP}

    project = made(desk.studio, body)
    one_more = operate(desk.studio, project, extra)
    done = operate(desk.studio, project, {"type": "ripple-delete", "clip": "c500"}, extra)

    assert len(json.dumps(body, ensure_ascii=False).encode()) > 400_000
    assert (project["clips"], len(ids(project, 1)), ids(project, 1)[0]) == (1000, 999, "c1")
    assert pointers(one_more) == {"/timeline/tracks"}
    assert (done.status_code, done.json()["version"], done.json()["clips"]) == (200, 2, 1000)
    assert found(desk.studio, project) == done.json()
    old = desk.studio.http.get(f"/projects/{project['id']}/versions/1").json()
    assert old["timeline"] == project["timeline"]
    copy = desk.studio.http.post(f"/projects/{project['id']}/duplicate", json={}).json()
    assert copy["timeline"] == done.json()["timeline"]
    assert len(keys(desk.studio, f"projects/{project['id']}/")) == 2
    for one in (copy, done.json()):
        tag = {"if-match": f'"{one["version"]}"'}
        assert desk.studio.http.delete(f"/projects/{one['id']}", headers=tag).status_code == 204
        assert keys(desk.studio, f"projects/{one['id']}/") == set()


def test_a_document_may_have_two_mebibytes_however_it_comes_to_them(desk: Desk) -> None:
    # Times come back as they are kept: 1.0, two bytes more than 1.
    texts = [
        {"id": f"t{number}", "text": '"' * (5000 if number < 208 else 2000), "start": float(number), "duration": 1.0}
        for number in range(210)
    ]
    body = {"title": "Large", "timeline": {"tracks": [{"type": "text", "clips": texts}]}}

    def sized(size: int) -> bytes:
        """The document as compact JSON of so many bytes."""
        texts[-1]["text"] = ""
        texts[-1]["text"] = "x" * (size - len(json.dumps(body, separators=(",", ":")).encode()))
        return json.dumps(body, separators=(",", ":")).encode()

    def saved(project: Json, data: bytes) -> httpx.Response:
        headers = {"if-match": "*", "content-type": "application/json"}
        return desk.studio.http.put(f"/projects/{project['id']}", content=data, headers=headers)

    project = made(desk.studio, document())
    largest = saved(project, sized(MOST_BYTES))
    check_problem(saved(project, sized(MOST_BYTES + 1)), 413, "payload_too_large")
    grown = operate(desk.studio, project, {"type": "append", "track": 0, "clip": {"text": "y", "duration": 1}})

    assert largest.status_code == 200, largest.text
    (version, *_) = desk.studio.http.get(f"/projects/{project['id']}/versions").json()["items"]
    assert (version["version"], version["bytes"]) == (2, MOST_BYTES)
    # Lambda hands an answer over as a string within JSON.
    assert len(json.dumps(largest.text, ensure_ascii=False).encode()) < LAMBDAS_ANSWER
    check_problem(grown, 413, "payload_too_large")
    assert found(desk.studio, project) == largest.json()


# Together with the library


def test_an_asset_is_in_use_as_long_as_a_project_shows_it(desk: Desk) -> None:
    asset = in_library(desk.studio, "alpha PNG")["id"]
    clip = {"id": "a", "asset": asset, "duration": 1}
    by_save, by_operation, by_restore, deleted = at_once([partial(made, desk.studio, document(GAP)) for _ in range(4)])
    for project in (by_save, by_restore, deleted):
        assert put(desk.studio, project, document(clip)).status_code == 200
    assert put(desk.studio, by_restore, document(), match='"2"').status_code == 200
    restored = desk.studio.http.post(f"/projects/{by_restore['id']}/versions/2/restore")
    assert restored.status_code == 200
    assert operate(desk.studio, by_operation, {"type": "append", "track": 0, "clip": clip}).status_code == 200
    copy = desk.studio.http.post(f"/projects/{by_save['id']}/duplicate", json={}).json()

    def users() -> set[str]:
        refused = desk.studio.http.delete(f"/assets/{asset}")
        return set(check_problem(refused, 409, "asset_in_use")["projects"])

    everybody = {project["id"] for project in (by_save, by_operation, by_restore, deleted, copy)}
    assert users() == everybody
    assert desk.studio.http.delete(f"/projects/{deleted['id']}", headers={"if-match": "*"}).status_code == 204
    assert put(desk.studio, by_save, document(), match="*").status_code == 200
    assert operate(desk.studio, by_operation, {"type": "ripple-delete", "clip": "a"}).status_code == 200
    assert users() == everybody - {deleted["id"], by_save["id"], by_operation["id"]}
    for project in (by_restore, copy):
        assert put(desk.studio, project, document(), match="*").status_code == 200
    assert desk.studio.http.delete(f"/assets/{asset}").status_code == 204


def test_a_clip_of_a_deleted_asset_shows_as_missing_and_stays_editable_until_it_is_replaced(desk: Desk) -> None:
    asset = in_library(desk.studio, "alpha PNG")["id"]
    project = made(desk.studio, document({"id": "a", "asset": asset, "duration": 3}))
    assert desk.studio.http.delete(f"/assets/{asset}", params={"force": "true"}).status_code == 204

    missing = found(desk.studio, project)
    split = operate(desk.studio, project, {"type": "split", "clip": "a", "at": 1})
    saved = put(desk.studio, project, document(*clips(split.json()), title="Saved"), match='"2"')
    elsewhere = desk.studio.http.post("/projects", json=document({"asset": asset, "duration": 3}))
    replaced = operate(
        desk.studio,
        project,
        *({"type": "replace-asset", "clip": clip, "asset": desk.picture, "duration": 1} for clip in ids(split.json())),
    )

    assert missing == {**project, "missing_assets": [asset]}
    assert [answer.json()["missing_assets"] for answer in (split, saved)] == [[asset], [asset]]
    assert flaws(elsewhere) == {"/timeline/tracks/0/clips/0/asset": "there is no such asset"}
    assert replaced.json()["missing_assets"] == []
    assert pointers(put(desk.studio, project, document(*clips(split.json())), match="*")) == {
        f"/timeline/tracks/0/clips/{number}/asset" for number in range(2)
    }


# Who may, and who did


def test_a_project_of_somebody_else_is_nowhere_to_be_found(desk: Desk, other: Studio) -> None:
    project = made(desk.studio, document({"id": "a", "asset": desk.film, "out": 1}))
    assert put(desk.studio, project, document({"id": "a", "asset": desk.film, "out": 2})).status_code == 200
    path, match = f"/projects/{project['id']}", {"if-match": "*"}
    before = found(desk.studio, project)

    tried = [
        other.http.get(path),
        other.http.put(path, json=document(title="Mine"), headers=match),
        other.http.delete(path, headers=match),
        other.http.post(f"{path}/duplicate", json={}),
        other.http.post(f"{path}/operations", json={"operations": [{"type": "split", "clip": "a", "at": 1}]}),
        other.http.get(f"{path}/versions"),
        other.http.get(f"{path}/versions/1"),
        other.http.post(f"{path}/versions/1/restore", headers=match),
        other.http.get(f"{path}/export.otio"),
        other.http.get(f"{path}/captions", params={"format": "srt"}),
        other.http.post(f"{path}/silence-cuts", json={"clip": "a"}),
    ]

    for answer in tried:
        check_problem(answer, 404, "not_found")
    assert other.http.get("/projects").json() == {"items": [], "next_cursor": None}
    assert found(desk.studio, project) == before


def test_an_asset_of_somebody_else_is_one_that_is_not_there(desk: Desk, other: Studio) -> None:
    project = made(other, document({"id": "a", **GAP}))
    clip = {"asset": desk.film, "out": 1}

    tried = [
        other.http.post("/projects", json=document(clip)),
        put(other, project, document(clip)),
        operate(other, project, {"type": "append", "track": 0, "clip": clip}),
    ]

    for answer in tried:
        (detail,) = flaws(answer).values()
        assert detail == "there is no such asset"
    assert found(other, project) == project


def test_the_audit_tells_who_has_changed_a_project_and_whoever_may_not_know_nothing(desk: Desk, other: Studio) -> None:
    project = made(desk.studio, document({"id": "a", **GAP}, title="First"))
    saved = put(desk.studio, project, document({"id": "a", **GAP}, title="Second"))
    operate(desk.studio, project, {"type": "split", "clip": "a", "at": 1})
    assert desk.studio.http.delete(f"/projects/{project['id']}", headers={"if-match": "*"}).status_code == 204
    query = {"resource": f"project/{project['id']}", "limit": "100"}

    def told() -> list[Json] | None:
        entries = desk.studio.http.get("/audit", params=query).json()["items"][::-1]
        of_project = [entry for entry in entries if entry["item"] == "project"]
        return entries if of_project and "deleted_at" in of_project[-1]["changes"] else None

    entries = eventually(told, timeout=30, what="the deletion in the audit")

    of_project = [entry for entry in entries if entry["item"] == "project"]
    assert [entry["action"] for entry in of_project] == ["created", "changed", "changed", "changed"]
    assert [entry["changes"]["version"]["after"] for entry in of_project[:3]] == [1, 2, 3]
    assert of_project[1]["changes"]["title"] == {"before": "First", "after": "Second"}
    assert of_project[1]["request_id"] == saved.headers["x-request-id"]
    assert len([entry for entry in entries if entry["item"] == "version" and entry["action"] == "created"]) == 3
    assert {entry["actor"] for entry in entries} == {desk.studio.account}
    assert other.http.get("/audit", params=query).json()["items"] == []
