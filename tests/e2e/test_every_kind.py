"""Every kind of generation at every provider that offers it, in fair weather and foul.

One account makes the media that others need; then every case is started, a few at a time, and each test waits for its
own. What is asked of a provider is steered by directives (local/simulator/directives.py) inside the request.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from local.cloud import Stack
from shared.core.settings import IN_HOUSE
from shared.jobs import catalog
from shared.jobs.catalog import Kind, Model
from shared.providers.registry import PREDICTORS
from tests.support import Json, Studio

PATHS: dict[Kind, str] = {
    "image": "images",
    "portrait": "portraits",
    "video": "videos",
    "character-video": "character-videos",
    "speech": "speech",
    "music": "music",
    "transcription": "transcriptions",
    "stems": "stems",
    "analysis": "analyses",
}
TYPES: dict[Kind, str] = {
    "image": "image/",
    "portrait": "image/",
    "video": "video/",
    "character-video": "video/",
    "speech": "audio/",
    "music": "audio/",
    "stems": "audio/",
    "analysis": "application/json",
}
AT_ONCE = 6


@dataclass(frozen=True)
class Weather:
    """What befalls a job, and how it must end: status and error code."""

    words: str
    status: str
    code: str | None = None
    predictors: bool = True
    generators: bool = True


WEATHER = {
    "fair": Weather("", "succeeded"),
    "fails": Weather("outcome=failed", "failed", "provider_failed", generators=False),
    "refuses": Weather("outcome=refused", "failed", "content_refused", predictors=False),
    "times out": Weather("outcome=never", "timed_out", generators=False),
    "answer lost": Weather("create=drop-after-accept", "failed", "outcome_unknown", predictors=False),
    "throttled at first": Weather("create=429 times=1", "succeeded"),
    "webhook lost": Weather("webhook=lost", "succeeded", generators=False),
    "webhook twice": Weather("webhook=twice", "succeeded", generators=False),
    "bad output": Weather("output=wrong-type", "failed", "bad_output"),
}


@dataclass(frozen=True)
class Case:
    model: Model
    kind: Kind
    weather: str

    def __str__(self) -> str:
        return f"{self.kind}-{self.model.id}-{self.weather.replace(' ', '_')}"


def _cases() -> Iterator[Case]:
    for model in catalog.models().values():
        # What we do ourselves asks no provider: test_silence_cuts.py.
        if model.successor is not None or model.provider == IN_HOUSE:
            continue
        for kind in model.kinds:
            for name, weather in WEATHER.items():
                fits = weather.predictors if model.provider in PREDICTORS else weather.generators
                # A transcript is no file, and an analysis is made of many calls: their bad output is another.
                if fits and not (kind in ("transcription", "analysis") and name == "bad output"):
                    yield Case(model, kind, name)


CASES = list(_cases())


@dataclass(frozen=True)
class Media:
    """What others are made of: assets of the account, and a recording that the simulated provider still has."""

    studio: Studio
    image: str
    speech: str
    video: str
    song_url: str


@pytest.fixture(scope="module")
def media(stack: Stack) -> Iterator[Media]:
    studio = Studio(stack, "every-kind")
    studio.grant(1_000_000)
    made = {
        "portrait": studio.create("a keeper", kind="portraits"),
        "speech": post(studio, "speech", {"text": "A lighthouse at dusk, and the sea is calm."}),
        "video": studio.create("waves", kind="videos", model="kling-3.0"),
        "song": studio.create("a song", kind="music", model="musicgen", duration_s=5),
    }
    ended = {name: studio.wait(job["id"]) for name, job in made.items()}
    assert {job["status"] for job in ended.values()} == {"succeeded"}, ended
    assets = {name: job["assets"][0]["id"] for name, job in ended.items()}
    prediction = studio.simulated(ended["song"]["id"])["predictions"][0]["id"]
    url = f"{stack.simulator_url}/replicate/v1/predictions/{prediction}"
    answer = httpx.get(url, headers={"authorization": "Bearer r8_test"}, trust_env=False)
    output = answer.json()["output"]
    song = output if isinstance(output, str) else output[0]
    yield Media(studio, assets["portrait"], assets["speech"], assets["video"], song)
    studio.check_invariants()
    studio.close()


@pytest.fixture(scope="module")
def started(media: Media) -> Iterator[dict[str, "Future[Json]"]]:
    """Every case under way, a few at a time."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {str(case): pool.submit(_run, media, case) for case in CASES}
        pool.shutdown(wait=True, cancel_futures=True)


def _run(media: Media, case: Case) -> Json:
    words = WEATHER[case.weather].words
    directive = f"[sim delay=1 {words}]" if words or case.model.provider in PREDICTORS else ""
    body = request(case, media, f"{case} {directive}", directive)
    job = post(media.studio, PATHS[case.kind], {"model": case.model.id, **body})
    return media.studio.wait(job["id"], timeout=180)


def request(case: Case, media: Media, prompt: str, directive: str) -> Json:
    match case.kind:
        case "speech":
            return {"text": prompt}
        case "character-video" if case.model.takes("prompt"):
            return {"image": media.image, "audio": media.speech, "prompt": prompt}
        case "character-video":
            return {"image": media.image, "audio": f"{media.song_url}#{quote(directive)}", "duration_s": 5}
        case "transcription":
            return {"audio": media.speech, "prompt": prompt}
        case "stems":
            return {"audio": f"{media.song_url}#{quote(directive)}", "duration_s": 5}
        case "analysis":
            return {"video": media.video, "prompt": prompt}
    return {"prompt": prompt}


def post(studio: Studio, path: str, body: Json) -> Json:
    answer = studio.http.post(f"/{path}", json=body)
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_kind_at_a_provider(media: Media, started: dict[str, "Future[Json]"], case: Case) -> None:
    weather = WEATHER[case.weather]

    job = started[str(case)].result(timeout=240)

    assert job["status"] == weather.status, job["error"]
    if weather.code is not None:
        # OpenAI sends pictures inside JSON: what is no JSON is no answer, and may have been paid for.
        lost = case.weather == "bad output" and case.model.provider_model.startswith("images:")
        assert job["error"]["code"] == ("outcome_unknown" if lost else weather.code)
    if job["status"] != "succeeded":
        assert job["credits"]["charged"] == 0
        assert job["assets"] == []
        return
    assert 0 < job["credits"]["charged"] <= job["credits"]["held"]
    assert job["progress"] == 100
    check_assets(media.studio, case.kind, job["assets"])
    if case.model.provider in PREDICTORS:
        assert media.studio.simulated(job["id"])["prediction_count"] == 1


def check_assets(studio: Studio, kind: Kind, assets: list[Json]) -> None:
    roles = {asset["role"]: asset for asset in assets}
    match kind:
        case "transcription":
            assert set(roles) == {"srt", "vtt", "words"}
            assert text_of(studio, roles["srt"]).startswith("1\n00:00:")
            assert text_of(studio, roles["vtt"]).startswith("WEBVTT")
        case "stems":
            assert set(roles) == {"vocals", "accompaniment"}
        case _:
            assert assets
    for asset in assets if kind in TYPES else []:
        assert asset["content_type"].startswith(TYPES[kind])
        if TYPES[kind] in ("video/", "audio/"):
            assert asset["duration_s"] > 0


def text_of(studio: Studio, asset: Json) -> str:
    answer = studio.http.get(f"/assets/{asset['id']}/content", follow_redirects=True)
    assert answer.status_code == 200
    return answer.text


def test_a_retired_model_is_refused_and_its_successor_named(media: Media) -> None:
    answer = media.studio.http.post("/videos", json={"prompt": "x", "model": "sora-2"})

    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"pointer": "/model", "detail": "sora-2 is retired; use kling-3.0"}]


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("videos", {"prompt": "x", "duration_s": 99}, "/duration_s"),
        ("videos", {"prompt": "x", "model": "minimax-video", "aspect_ratio": "1:1"}, "/aspect_ratio"),
        ("speech", {"text": "x" * 5000}, "/text"),
        ("speech", {"text": "x", "voice": "nobody"}, "/voice"),
        ("stems", {"audio": "https://example.com/a.mp3"}, "/duration_s"),
        ("stems", {"audio": "http://127.0.0.1:1/a.mp3", "duration_s": 5}, "/audio"),
        ("transcriptions", {"audio": "as_00000000000000000000000000"}, "/audio"),
        ("transcriptions", {"audio": "file:///etc/passwd"}, "/audio"),
        ("character-videos", {"image": "as_00000000000000000000000000"}, "/audio"),
    ],
)
def test_what_a_model_cannot_do_is_refused_before_anything_is_held(
    media: Media, path: str, body: Json, pointer: str
) -> None:
    before = media.studio.credits()["available"]

    answer = media.studio.http.post(f"/{path}", json=body)

    assert answer.status_code == 422
    assert pointer in [error["pointer"] for error in answer.json()["errors"]]
    assert media.studio.credits()["available"] <= before


def test_an_asset_of_another_account_cannot_be_used(media: Media, new_studio: Any) -> None:
    other = new_studio(1000)

    answer = other.http.post("/transcriptions", json={"audio": media.speech})

    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"pointer": "/audio", "detail": "there is no such asset"}]


def test_an_asset_of_the_wrong_kind_cannot_be_used(media: Media) -> None:
    answer = media.studio.http.post("/transcriptions", json={"audio": media.image})

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/audio"


def test_the_same_video_is_not_paid_for_twice(new_studio: Any, media: Media) -> None:
    studio = media.studio
    body = {"video": media.video, "prompt": "faces, for the cache"}

    first = studio.wait(post(studio, "analyses", body)["id"])
    second = studio.wait(post(studio, "analyses", body)["id"])

    assert (first["status"], second["status"]) == ("succeeded", "succeeded")
    assert first["credits"]["charged"] > 0
    assert second["credits"]["charged"] == 0
    assert [asset["sha256"] for asset in first["assets"]] == [asset["sha256"] for asset in second["assets"]]


def test_a_batch_is_accepted_as_a_whole_and_counts_its_jobs(new_studio: Any) -> None:
    studio = new_studio(60)
    generations = [{"kind": "image", "prompt": f"boat {number}"} for number in range(18)]
    generations += [{"kind": "image", "prompt": "storm [sim outcome=failed]"}, {"kind": "image", "prompt": "calm"}]

    too_dear = studio.http.post("/batches", json={"generations": [*generations, *generations]})
    made = studio.http.post("/batches", json={"generations": generations}, headers={"idempotency-key": "one"})
    again = studio.http.post("/batches", json={"generations": generations}, headers={"idempotency-key": "one"})

    assert too_dear.status_code == 402
    assert too_dear.json()["needed"] == 120
    assert made.status_code == again.status_code == 202
    assert again.headers["idempotency-replayed"] == "true"
    batch = made.json()
    assert batch["id"] == again.json()["id"]
    assert batch["total"] == len(batch["items"]) == 20
    ended = [studio.wait(job["id"]) for job in batch["items"]]
    assert [job["status"] for job in ended].count("succeeded") == 19
    told = studio.http.get(f"/batches/{batch['id']}").json()
    assert told["counts"] == {"failed": 1, "succeeded": 19}
    assert told["finished"] is True
    assert told["credits"] == {"held": 60, "charged": 57}
    assert studio.credits() == {"available": 3, "held": 0, "spent": 57}


def test_a_batch_with_one_flaw_is_refused_whole(studio: Studio) -> None:
    generations = [{"kind": "image", "prompt": "fine"}, {"kind": "image", "prompt": ""}, {"kind": "opera"}]

    answer = studio.http.post("/batches", json={"generations": generations})

    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/generations/1/prompt", "/generations/2/kind"]
    assert studio.credits() == {"available": 100, "held": 0, "spent": 0}
