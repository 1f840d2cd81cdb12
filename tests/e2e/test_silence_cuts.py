"""Silence taken out of a clip by a job: what is told, what is cut, what it costs, and whom it is refused."""

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any

import pytest

from local.cloud import Stack
from tests.e2e.callbacks import Receiver, new_secret, verify
from tests.e2e.helpers import at_once, check_problem, check_refunded, pointers
from tests.e2e.listening import FILM_S, GAPS, film
from tests.e2e.uploading import uploaded
from tests.sounds import nothing, talk, wav
from tests.support import Json, Studio

WITHIN_S = 0.06
"""A frame of AAC and a window of the filter."""


class Heard:
    """An account with things to hear."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio

    @cached_property
    def film(self) -> str:
        return self._asset(film(), "video/mp4")

    @cached_property
    def talk(self) -> str:
        return self._asset(wav(list(talk())).getvalue(), "audio/wav")

    def _asset(self, data: bytes, media_type: str) -> str:
        outcome = uploaded(self.studio, data, media_type)
        assert outcome["state"] == "ready", outcome
        return str(outcome["asset"]["id"])

    def project(self, **timeline: Any) -> Json:
        """A film of nine seconds and another clip behind it, with a text and captions before, between and behind the
        gaps."""
        tracks = [
            {
                "type": "video",
                "clips": [
                    {"id": "film", "asset": self.film, "out": FILM_S},
                    {"id": "later", "asset": self.film, "in": 4, "out": 5},
                ],
            },
            {"type": "text", "clips": [{"id": "title", "text": "Later", "start": 9, "duration": 1}]},
        ]
        cues = [{"text": name, "start": at, "end": at + 0.5} for name, at in (("a", 1.0), ("b", 4.0), ("c", 8.0))]
        document = {"title": "x", "timeline": {"tracks": tracks, "captions": {"cues": cues}, **timeline}}
        return self.made(document)

    def made(self, document: Json) -> Json:
        answer = self.studio.http.post("/projects", json=document)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def now(self, project: Json) -> Json:
        return dict(self.studio.http.get(f"/projects/{project['id']}").json())

    def cut(self, project: Json, *, key: str | None = None, **body: Any) -> Json:
        """The job, once it has ended."""
        asked = self.studio.post(f"projects/{project['id']}/silence-cuts", {"clip": "film", **body}, key=key)
        return self.studio.wait(asked["id"])

    def told(self, job: Json) -> Json:
        """What a job that has succeeded has found."""
        assert job["status"] == "succeeded", job
        (asset,) = job["assets"]
        assert (asset["role"], asset["content_type"]) == ("cuts", "application/json")
        answer = self.studio.http.get(f"/assets/{asset['id']}/content", follow_redirects=True)
        assert answer.status_code == 200
        return dict(answer.json())


@pytest.fixture(scope="module")
def heard(stack: Stack) -> Iterator[Heard]:
    studio = Studio(stack, "silence-cuts")
    studio.grant(1000)
    yield Heard(studio)
    studio.check_invariants()
    studio.close()


def near(cuts: list[Json], *expected: tuple[float, float], within: float = WITHIN_S) -> None:
    assert [(cut["start"], cut["end"]) for cut in cuts] == [
        (pytest.approx(start, abs=within), pytest.approx(end, abs=within)) for start, end in expected
    ]


def of_track(project: Json, number: int) -> list[Json]:
    return list(project["timeline"]["tracks"][number]["clips"])


def test_the_cuts_are_told_with_their_margins_and_nothing_is_changed(heard: Heard) -> None:
    project = heard.project()

    job = heard.cut(project)
    told = heard.told(job)

    near(told["cuts"], *((start + 0.15, end - 0.15) for start, end in GAPS))
    assert told["removed_s"] == pytest.approx(sum(cut["end"] - cut["start"] for cut in told["cuts"]))
    assert (told["project"], told["clip"], told["mode"]) == (project["id"], "film", "loudness")
    assert (told["threshold_db"], told["min_duration"], told["margin"]) == (-35, 0.6, 0.15)
    assert (told["etag"], told["applied"]) == ('"1"', None)
    assert heard.now(project) == project
    assert (job["model"], job["credits"]) == ("silence-cutter", {"held": 1, "charged": 1})


def test_applied_cuts_are_the_next_version_and_captions_and_later_clips_move_along(heard: Heard) -> None:
    project = heard.project()

    told = heard.told(heard.cut(project, apply=True))
    after = heard.now(project)

    first, second = (cut["end"] - cut["start"] for cut in told["cuts"])
    assert (told["etag"], told["applied"]) == ('"1"', {"etag": '"2"'})
    assert after["version"] == 2
    assert after["duration_s"] == pytest.approx(10 - told["removed_s"], abs=0.001)
    shown = [(clip.get("in", 0), clip["out"]) for clip in of_track(after, 0)]
    (one, two) = told["cuts"]
    assert shown == [(0, one["start"]), (one["end"], two["start"]), (two["end"], FILM_S), (4, 5)]
    (title,) = of_track(after, 1)
    assert title["start"] == pytest.approx(9 - first - second, abs=0.001)
    starts = [cue["start"] for cue in after["timeline"]["captions"]["cues"]]
    assert starts == [1, pytest.approx(4 - first, abs=0.001), pytest.approx(8 - first - second, abs=0.001)]
    (_, version) = reversed(heard.studio.http.get(f"/projects/{project['id']}/versions").json()["items"])
    assert version["saved_by"].startswith("job_")


def test_what_is_asked_for_goes_before_what_the_project_says_and_that_before_the_usual(heard: Heard) -> None:
    project = heard.project(silence={"min_duration": 1.2, "margin": 0.3})

    asked = heard.told(heard.cut(project, margin=0.05))

    near(asked["cuts"], (2.05, 3.45))
    assert (asked["min_duration"], asked["margin"]) == (1.2, 0.05)


def test_in_a_clip_without_silence_there_is_nothing_to_apply(heard: Heard) -> None:
    project = heard.project()

    told = heard.told(heard.cut(project, clip="later", apply=True))

    assert (told["cuts"], told["applied"]) == ([], None)
    assert heard.now(project)["version"] == 1


def test_music_goes_and_speech_stays_where_speech_is_asked_for(heard: Heard) -> None:
    voice = {"id": "film", "asset": heard.talk, "start": 0, "out": 11}
    project = heard.made({"title": "x", "timeline": {"tracks": [{"type": "audio", "role": "voice", "clips": [voice]}]}})

    loud = heard.told(heard.cut(project))
    spoken = heard.told(heard.cut(project, mode="speech", margin=0.1, apply=True))

    assert loud["cuts"] == []
    near(spoken["cuts"], (0, 1.9), (4.1, 6.9), (9.1, 11), within=0.3)
    assert [clip["start"] for clip in of_track(heard.now(project), 0)] == [0, pytest.approx(2.2, abs=0.6)]


def test_a_repeat_under_the_same_key_is_the_same_job_and_cuts_once(heard: Heard) -> None:
    project = heard.project()
    path, body, once = f"/projects/{project['id']}/silence-cuts", {"clip": "film", "apply": True}, "cut-once"

    first = heard.studio.http.post(path, json=body, headers={"idempotency-key": once})
    heard.studio.wait(first.json()["id"])
    again = heard.studio.http.post(path, json=body, headers={"idempotency-key": once})
    other = heard.studio.http.post(path, json={"clip": "later"}, headers={"idempotency-key": once})

    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["idempotency-replayed"] == "true"
    check_problem(other, 422, "idempotency_key_reused")
    assert heard.now(project)["version"] == 2


def test_a_dry_run_tells_the_price_by_the_begun_minute_and_does_nothing_else(heard: Heard) -> None:
    project = heard.project()
    before = heard.studio.entries()

    answer = heard.studio.http.post(
        f"/projects/{project['id']}/silence-cuts", params={"dry_run": "true"}, json={"clip": "film"}
    )

    assert answer.status_code == 200
    assert answer.json()["estimate"] == {
        "kind": "silence-cuts",
        "model": "silence-cutter",
        "credits": 1,
        "units": 9,
        "per": "second",
    }
    assert heard.studio.entries() == before


def test_the_end_is_told_by_callback(heard: Heard) -> None:
    receiver = Receiver(heard.studio.stack)
    secret = new_secret(heard.studio)

    job = heard.cut(heard.project(), callback_url=receiver.url, metadata={"order": "7"})

    (call,) = receiver.got(1)
    verify(call, secret)
    told = call["event"]["data"]
    assert (told["id"], told["kind"], told["status"]) == (job["id"], "silence-cuts", "succeeded")


# Refused


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, "/clip"),
        ({"clip": "nobody"}, "/clip"),
        ({"clip": "title"}, "/clip"),
        ({"clip": "a/b"}, "/clip"),
        ({"clip": "film", "mode": "music"}, "/mode"),
        ({"clip": "film", "threshold_db": 1}, "/threshold_db"),
        ({"clip": "film", "min_duration": -1}, "/min_duration"),
        ({"clip": "film", "margin": "0.1"}, "/margin"),
        ({"clip": "film", "apply": 1}, "/apply"),
        ({"clip": "film", "project": "pr_1"}, "/project"),
        ({"clip": "film", "model": "flux-schnell"}, "/model"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_place(heard: Heard, body: Json, where: str) -> None:
    project = heard.project()

    answer = heard.studio.http.post(f"/projects/{project['id']}/silence-cuts", json=body)

    assert pointers(answer) == {where}


def test_another_account_sees_no_project_and_a_project_that_is_not_there_is_404(
    heard: Heard, new_studio: Callable[..., Studio]
) -> None:
    project, other = heard.project(), new_studio()

    for of in (project["id"], "pr_" + "0" * 26, "x"):
        answer = other.http.post(f"/projects/{of}/silence-cuts", json={"clip": "film"})
        check_problem(answer, 404, "not_found")
    assert other.credits() == {"available": 100, "held": 0, "spent": 0}


def test_without_credits_nothing_is_listened_to(new_studio: Callable[..., Studio]) -> None:
    poor = new_studio(0)
    project = Heard(poor).project()

    answer = poor.http.post(f"/projects/{project['id']}/silence-cuts", json={"clip": "film"})

    check_problem(answer, 402, "insufficient_credits")


def test_a_batch_takes_none(heard: Heard) -> None:
    answer = heard.studio.http.post("/batches", json={"generations": [{"kind": "silence-cuts", "clip": "film"}]})

    assert pointers(answer) == {"/generations/0/kind"}


# Called off, and with others at work


def test_a_job_that_is_called_off_while_it_listens_changes_nothing_and_costs_nothing(
    new_studio: Callable[..., Studio],
) -> None:
    studio = new_studio()
    hall = uploaded(studio, wav(nothing(600)).getvalue(), "audio/wav")["asset"]["id"]
    clip = {"id": "hall", "asset": hall, "start": 0, "out": 600}
    document = {"title": "x", "timeline": {"tracks": [{"type": "audio", "role": "voice", "clips": [clip]}]}}
    project = studio.http.post("/projects", json=document).json()
    asked = {"clip": "hall", "mode": "speech", "apply": True}
    job = studio.post(f"projects/{project['id']}/silence-cuts", asked)
    studio.wait(job["id"], until={"processing"})

    studio.http.post(f"/jobs/{job['id']}/cancel")
    ended = studio.wait(job["id"])

    assert (ended["status"], ended["error"]["code"], ended["assets"]) == ("canceled", "canceled", [])
    assert studio.http.get(f"/projects/{project['id']}").json()["version"] == 1
    check_refunded(studio, ended)


def test_what_others_save_meanwhile_is_kept(heard: Heard) -> None:
    project = heard.project()
    path = f"/projects/{project['id']}/operations"

    def edit(number: int) -> int:
        clip = {"id": f"t{number}", "text": f"{number}", "start": 20 + number, "duration": 1}
        told = {"operations": [{"type": "append", "new_track": "text", "clip": clip}]}
        return heard.studio.http.post(path, json=told).status_code

    answers = at_once([partial(edit, number) for number in range(8)] + [lambda: heard.cut(project, apply=True)])

    told, after = heard.told(answers.pop()), heard.now(project)
    assert set(answers) == {200}
    assert after["version"] == 10
    assert [len(clips) for clips in (of_track(after, number) for number in range(10))] == [4, 1, *[1] * 8]
    assert 2 <= int(told["applied"]["etag"].strip('"')) <= 10
