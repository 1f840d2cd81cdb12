"""What models other than picture models make, at Replicate: real media as long as asked or as long as the input."""

import math
from itertools import pairwise
from typing import Any

import pytest

from local.simulator.transcripts import transcribe
from tests.unit.test_simulator_common import Provider, eventually, origin, probed, provider, web

__all__ = ["origin"]


@pytest.fixture
def replicate(origin: str) -> Provider:
    return provider(origin, "replicate")


def predicted(caller: Provider, model: str, **given: Any) -> dict[str, Any]:
    """The finished prediction."""
    path = f"/replicate/v1/models/{model}/predictions"
    answer = caller.post(path, {"input": given}, headers={"prefer": "wait"})
    assert answer.status_code == 201, answer.text
    prediction: dict[str, Any] = answer.json()
    return prediction


@pytest.fixture
def song(replicate: Provider) -> str:
    """The URL of six seconds of music."""
    url: str = predicted(replicate, "meta/musicgen", prompt="[sim delay=0]", duration=6)["output"]
    return url


def test_a_film_lasts_as_long_as_asked_and_has_a_shape(replicate: Provider) -> None:
    made = predicted(replicate, "kwaivgi/kling-v2.1", prompt="a boat [sim delay=0]", duration=3, aspect_ratio="9:16")

    film = web.get(made["output"])
    seconds, report = probed(film.content)
    assert film.headers["content-type"] == "video/mp4"
    assert seconds == pytest.approx(3, abs=0.1)
    assert "360x640" in report
    assert "Audio:" not in report


@pytest.mark.parametrize(
    ("model", "given", "heard"),
    [
        ("google/veo-3", {}, True),
        ("google/veo-3", {"generate_audio": False}, False),
        ("a/kling", {"sound": True}, True),
    ],
)
def test_a_film_has_sound_or_not(replicate: Provider, model: str, given: dict[str, Any], heard: bool) -> None:
    made = predicted(replicate, model, prompt="a boat [sim delay=0]", seconds="2", **given)

    assert ("Audio:" in probed(web.get(made["output"]).content)[1]) == heard


@pytest.mark.parametrize(("given", "kind"), [({}, "audio/wav"), ({"output_format": "mp3"}, "audio/mpeg")])
def test_music_lasts_as_long_as_asked(replicate: Provider, given: dict[str, Any], kind: str) -> None:
    made = predicted(replicate, "meta/musicgen", prompt="calm [sim delay=0]", duration=4, **given)

    sound = web.get(made["output"])
    assert sound.headers["content-type"] == kind
    assert probed(sound.content)[0] == pytest.approx(4, abs=0.1)


def test_long_music_is_made_quickly_and_lasts(replicate: Provider) -> None:
    made = predicted(replicate, "a/stable-audio", prompt="calm [sim delay=0]", seconds=180)

    assert probed(web.get(made["output"]).content)[0] == pytest.approx(180, abs=0.3)


def test_speech_lasts_as_long_as_its_text(replicate: Provider) -> None:
    text = "The lighthouse keeper climbed the stairs."

    made = predicted(replicate, "minimax/speech-02-hd", text=f"{text} [sim delay=0]")

    assert probed(web.get(made["output"]).content)[0] == pytest.approx(len(text) / 14, abs=0.15)


def test_a_transcript_covers_the_true_length_of_what_was_said(replicate: Provider, song: str) -> None:
    output = predicted(replicate, "openai/whisper", audio=song, metadata="[sim delay=0]")["output"]

    words = [word for segment in output["segments"] for word in segment["words"]]
    assert words[0]["start"] == 0
    assert 5.5 < words[-1]["end"] <= 6.1
    assert all(a["start"] < a["end"] <= b["start"] for a, b in pairwise(words))
    assert output["text"] == " ".join(word["word"] for word in words)
    assert output["detected_language"] == "en"


def test_a_transcript_says_what_it_is_told(replicate: Provider, song: str) -> None:
    told = '[sim delay=0 say="hold credits, capture credits"]'

    output = predicted(replicate, "openai/whisper", audio=song, initial_prompt=told)["output"]

    assert output["text"] == "hold credits, capture credits"
    assert output["segments"][0]["words"][-1]["end"] == pytest.approx(6, abs=0.3)


def test_words_never_pass_the_end() -> None:
    for tenths in range(1, 300, 7):
        words = transcribe(tenths / 10).words
        assert words
        assert math.floor(words[-1].end * 1000) <= tenths * 100


@pytest.mark.parametrize(
    ("model", "given", "names"),
    [
        ("ryan5453/demucs", {}, ["vocals", "drums", "bass", "other"]),
        ("ryan5453/demucs", {"stem": "vocals"}, ["vocals", "other"]),
        ("soykertje/spleeter", {}, ["vocals", "accompaniment"]),
    ],
)
def test_stems_are_as_long_as_the_song(
    replicate: Provider, song: str, model: str, given: dict[str, Any], names: list[str]
) -> None:
    output = predicted(replicate, model, audio=song, note="[sim delay=0]", **given)["output"]

    assert list(output) == names
    assert {round(probed(web.get(url).content)[0]) for url in output.values()} == {6}


def test_a_character_speaks_as_long_as_its_sound(replicate: Provider, song: str) -> None:
    portrait = predicted(replicate, "black-forest-labs/flux-dev", prompt="[sim delay=0]")["output"][0]

    output = predicted(replicate, "a/talking-head", image=portrait, audio=song, prompt="[sim delay=0]")["output"]

    seconds, report = probed(web.get(output).content)
    assert seconds == pytest.approx(6, abs=0.2)
    assert "Audio:" in report
    assert "Video:" in report


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/a.mp3", "{origin}/delivery/none.mp3", "data:audio/mpeg;base64,AAAA"]
)
def test_an_input_that_cannot_be_had_fails_the_prediction(replicate: Provider, origin: str, url: str) -> None:
    made = predicted(replicate, "openai/whisper", audio=url.format(origin=origin), note="[sim delay=0]")

    assert (made["status"], made["output"]) == ("failed", None)
    assert "audio" in made["error"]


def test_a_portrait_that_cannot_be_had_fails_a_video(replicate: Provider) -> None:
    made = predicted(replicate, "a/kling", prompt="[sim delay=0]", start_image="http://127.0.0.1:9/a.png")

    assert made["status"] == "failed"
    assert "start_image" in made["error"]


@pytest.mark.parametrize(("model", "given"), [("openai/whisper", {}), ("a/kling", {"prompt": "x", "duration": "long"})])
def test_an_input_that_does_not_fit_is_422(replicate: Provider, model: str, given: dict[str, Any]) -> None:
    assert replicate.post(f"/replicate/v1/models/{model}/predictions", {"input": given}).status_code == 422


def test_the_kind_can_be_told(replicate: Provider) -> None:
    assert predicted(replicate, "a/b", prompt="[sim kind=music delay=0 seconds=1]")["output"].endswith(".mp3")


@pytest.mark.parametrize(
    ("words", "output"), [("output=empty", None), ("output=nourls", []), ("output=string-urls", "http")]
)
def test_an_output_of_another_shape(replicate: Provider, words: str, output: object) -> None:
    found = predicted(replicate, "a/b", prompt=f"[sim {words} delay=0]")["output"]

    assert found[:4] == output if isinstance(found, str) else found == output


def test_a_refusal_a_cost_and_no_credit(replicate: Provider) -> None:
    refused = predicted(replicate, "a/b", prompt="[sim outcome=refused delay=0]")
    costly = predicted(replicate, "a/b", prompt="[sim cost=77.5 delay=0]")
    unpaid = replicate.post("/replicate/v1/models/a/b/predictions", {"input": {"prompt": "[sim create=402]"}})
    bare = replicate.post("/replicate/v1/models/a/b/predictions", {"input": {"prompt": "[sim create=429bare]"}})

    assert (refused["status"], "NSFW" in refused["error"]) == ("failed", True)
    assert costly["metrics"]["predict_time"] == 77.5
    assert unpaid.status_code == 402
    assert (bare.status_code, "retry-after" in bare.headers) == (429, False)


def test_the_log_tells_how_far_it_is(replicate: Provider) -> None:
    answer = replicate.post("/replicate/v1/models/a/b/predictions", {"input": {"prompt": "[sim delay=0.4]"}})

    def log() -> str:
        return str(replicate.get(f"/replicate/v1/predictions/{answer.json()['id']}").json()["logs"])

    eventually(lambda: 0 < int(log().strip().partition("%")[0] or 0) < 100)
    eventually(lambda: log().startswith("100%"))
