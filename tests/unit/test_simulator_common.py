"""What the simulated providers have in common, and the scene in which their own tests play."""

import asyncio
import hashlib
import json
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local.simulator.app import Settings, create_app
from local.simulator.directives import UnknownDirective, find, parse, require
from local.simulator.models import kind_of
from local.simulator.server import serving
from local.simulator.studio import ffmpeg

KIE_KEY = "kie-test-hmac-key"
FAL_SEED = bytes(range(32))
LATE_AFTER = 0.5
SPEECH = {"model": "gpt-4o-mini-tts", "voice": "coral"}
numbers = count()
web = httpx.Client(timeout=20)


@dataclass
class Receiver:
    """Takes webhooks."""

    url: str = ""
    seen: list[tuple[httpx.Headers, bytes]] = field(default_factory=list)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.seen]


@dataclass
class Provider:
    """A caller of one simulated provider."""

    origin: str
    headers: dict[str, str]

    def call(self, method: str, path: str, *, key: str | None = None, **more: Any) -> httpx.Response:
        headers = self.headers
        if key is not None:
            headers = {name: re.sub(r"\S+$", key, value) for name, value in headers.items()}
        url = path if path.startswith("http") else f"{self.origin}{path}"
        return web.request(method, url, headers=headers | more.pop("headers", {}), **more)

    def post(self, path: str, body: object, **more: Any) -> httpx.Response:
        return self.call("POST", path, json=body, **more)

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.call("GET", path, **more)


HEADERS = {
    "replicate": {"authorization": "Bearer r8_test"},
    "kie": {"authorization": "Bearer kie_test"},
    "fal": {"authorization": "Key fal_test"},
    "openai": {"authorization": "Bearer sk-test"},
    "elevenlabs": {"xi-api-key": "el_test"},
    "gemini": {"x-goog-api-key": "gm_test"},
}
# A call of each that works.
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "replicate": ("/replicate/v1/models/a/b/predictions", {"input": {"prompt": "a boat"}}),
    "kie": ("/kie/api/v1/jobs/createTask", {"model": "nano-banana-2", "input": {"prompt": "a boat"}}),
    "fal": ("/fal/fal-ai/flux/dev", {"prompt": "a boat"}),
    "openai": ("/openai/v1/audio/speech", SPEECH | {"input": "a boat"}),
    "elevenlabs": ("/elevenlabs/v1/text-to-speech/JBFqnCBsd6RMkjVDRZzb", {"text": "a boat"}),
    "gemini": (
        "/gemini/v1beta/models/gemini-2.5-flash:generateContent",
        {"contents": [{"parts": [{"text": "a boat"}]}]},
    ),
}


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    settings = Settings(late_after=LATE_AFTER, retry_pauses=(0.02,) * 4, kie_hmac_key=KIE_KEY, fal_seed=FAL_SEED)
    with serving(create_app(settings)) as address:
        yield address


@pytest.fixture(scope="module")
def receivers() -> Iterator[dict[str, Receiver]]:
    known: dict[str, Receiver] = {}

    async def receive(request: Request) -> Response:
        known[request.path_params["name"]].seen.append((httpx.Headers(request.headers.raw), await request.body()))
        return Response()

    with serving(Starlette(routes=[Route("/{name}", receive, methods=["POST"])])) as address:
        known["origin"] = Receiver(url=address)
        yield known


@pytest.fixture
def receiver(receivers: dict[str, Receiver]) -> Receiver:
    name = f"hook{next(numbers)}"
    receivers[name] = Receiver(url=f"{receivers['origin'].url}/{name}?job=job_{name}")
    return receivers[name]


def provider(origin: str, name: str) -> Provider:
    return Provider(origin, HEADERS[name])


def hooked(name: str, path: str, body: dict[str, Any], to: Receiver) -> tuple[str, dict[str, Any]]:
    """The create call of a provider that is to call back."""
    if name == "fal":
        return f"{path}?fal_webhook={to.url}", body
    return path, body | {"replicate": {"webhook": to.url}, "kie": {"callBackUrl": to.url}}[name]


def eventually[Found](look: Callable[[], Found | None]) -> Found:
    give_up = time.monotonic() + 8
    while not (found := look()):
        assert time.monotonic() < give_up, "it did not happen"
        time.sleep(0.02)
    return found


def inspected(origin: str, part: str) -> dict[str, Any]:
    found: dict[str, Any] = web.get(f"{origin}/_sim/predictions", params={"webhook_contains": part}).json()
    return found


def calls(origin: str, part: str) -> dict[str, Any]:
    found: dict[str, Any] = web.get(f"{origin}/_sim/calls", params={"contains": part}).json()
    return found


def probed(content: bytes, *arguments: str) -> tuple[float, str]:
    """Seconds that FFmpeg decodes, and its report. Fails the test when it complains."""
    decode = [ffmpeg(), "-hide_banner", *arguments, "-i", "pipe:0", "-f", "null", "-"]
    report = subprocess.run(decode, input=content, capture_output=True, timeout=20, check=True).stderr.decode()
    assert "rror" not in report, report
    hours, minutes, seconds = re.findall(r"time=(\d+):(\d+):([\d.]+)", report)[-1]
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds), report


# Which model makes what


@pytest.mark.parametrize(
    ("model", "fields", "kind"),
    [
        ("black-forest-labs/flux-schnell", {"prompt"}, "image"),
        ("ideogram-ai/ideogram-character", {"prompt", "character_reference_image"}, "image"),
        ("minimax/image-01", {"prompt"}, "image"),
        ("luma/photon", {"prompt"}, "image"),
        ("luma/ray-2-720p", {"prompt"}, "video"),
        ("minimax/video-01", {"prompt"}, "video"),
        ("minimax/speech-02-hd", {"text"}, "speech"),
        ("minimax/music-1.5", {"prompt", "lyrics"}, "music"),
        ("meta/musicgen", {"prompt", "duration"}, "music"),
        ("kwaivgi/kling-v2.1", {"prompt"}, "video"),
        ("kwaivgi/kling-avatar-v2", {"image", "audio"}, "character-video"),
        ("kling-3.0/video", {"prompt"}, "video"),
        ("bytedance/seedance-2", {"prompt"}, "video"),
        ("bytedance/seedream-4", {"prompt"}, "image"),
        ("bytedance/omni-human", {"image", "audio"}, "character-video"),
        ("google/veo-3", {"prompt"}, "video"),
        ("wan-video/wan-2.2-t2v-fast", {"prompt"}, "video"),
        ("openai/whisper", {"audio"}, "transcription"),
        ("vaibhavs10/incredibly-fast-whisper", {"audio"}, "transcription"),
        ("ryan5453/demucs", {"audio"}, "stems"),
        ("cjwbw/sadtalker", {"source_image", "driven_audio"}, "character-video"),
        ("simulated/model", {"image", "audio"}, "character-video"),
        ("simulated/model", {"audio"}, "transcription"),
        ("simulated/model", {"prompt", "duration"}, "video"),
        ("simulated/model", {"prompt"}, "image"),
    ],
)
def test_the_name_decides_what_a_model_makes_and_the_input_where_it_tells_nothing(
    model: str, fields: set[str], kind: str
) -> None:
    assert kind_of(model, fields) == kind


# Directives


def test_directives_are_found_in_any_text_of_a_request_and_count_once() -> None:
    document = {
        "a": ["[sim delay=2]", "[sim delay=2]"],
        "metadata": {"note": "[sim outcome=failed]"},
        "audio": "https://x.example/a.mp3?note=%5Bsim%20say%3D%22two%20words%22%5D",
        "image": "data:image/png;base64,[sim",
        "data": "[sim",
    }

    found = find(document)

    assert (found.delay, found.outcome, found.say) == (2, "failed", "two words")


@pytest.mark.parametrize(("size", "number"), [("500MB", 500_000_000), ("3MiB", 3 << 20), ("77", 77)])
def test_a_size_has_units(size: str, number: int) -> None:
    assert parse(f"[sim bytes={size}]").bytes == number


@pytest.mark.parametrize("words", ["bytes=0", "bytes=9TB", "cost=-1", "cost=x", "seconds=9999", 'say=" "', "kind=poem"])
def test_a_value_that_makes_no_sense_is_named(words: str) -> None:
    with pytest.raises(UnknownDirective, match=re.escape(words.partition("=")[0])):
        parse(f"[sim {words}]")


def test_what_a_provider_cannot_do_is_named() -> None:
    with pytest.raises(UnknownDirective, match="cancel=ignored"):
        require(parse("[sim cancel=ignored]"), {"outcome": {"failed"}}, "it")
    with pytest.raises(UnknownDirective, match="cost=3"):
        require(parse("[sim cost=3]"), {}, "it")


@pytest.mark.parametrize("name", CALLS)
def test_every_provider_refuses_a_directive_it_does_not_know(origin: str, name: str) -> None:
    path, body = CALLS[name]

    answer = provider(origin, name).post(path, json.loads(json.dumps(body).replace("a boat", "a [sim colour=red]")))

    assert "colour=red" in answer.text
    assert answer.status_code in (400, 422) or (name, answer.json()["code"]) == ("kie", 422)


# Keys


@pytest.mark.parametrize("name", CALLS)
def test_every_provider_knows_its_own_keys(origin: str, name: str) -> None:
    path, body = CALLS[name]
    caller = provider(origin, name)
    prefix = re.split(r"\s", next(iter(HEADERS[name].values())))[-1].removesuffix("test")

    good = caller.post(path, body, key=f"{prefix}another")
    wrong = caller.post(path, body, key="xx_test")
    revoked = caller.post(path, body, key=f"{prefix}revoked_1")
    throttled = caller.post(path, body, key=f"{prefix}throttled_1")

    assert good.status_code in (200, 201)
    assert (wrong.status_code, revoked.status_code) == (401, 401)
    assert wrong.json() == revoked.json()
    assert throttled.status_code == 429 or throttled.json()["code"] == 429


@pytest.mark.parametrize("name", CALLS)
def test_every_provider_can_quote_the_key_it_was_sent(origin: str, name: str) -> None:
    path, body = CALLS[name]
    key = next(iter(HEADERS[name].values())).split()[-1]

    answer = provider(origin, name).post(path, json.loads(json.dumps(body).replace("a boat", "a [sim {key}]")))

    assert f"'{key}'" in answer.text
    assert "{key}" not in answer.text


def test_creates_and_calls_remember_the_fingerprint_of_the_key(origin: str, receiver: Receiver) -> None:
    provider(origin, "openai").post("/openai/v1/audio/speech", SPEECH | {"input": "whose key"}, key="sk-throttled-a")
    provider(origin, "fal").post(f"/fal/fal-ai/flux?fal_webhook={receiver.url}", {"prompt": "x"}, key="fal_one")

    call = calls(origin, "whose key")["calls"][0]
    create = inspected(origin, receiver.url)["creates"][0]
    assert call["key"] == hashlib.sha256(b"sk-throttled-a").hexdigest()[:12]
    assert (call["outcome"], call["billed"]) == ("429", False)
    assert (create["provider"], create["key"]) == ("fal", hashlib.sha256(b"fal_one").hexdigest()[:12])


# Inspection and files


def test_tests_can_have_the_secrets(origin: str) -> None:
    secrets = web.get(f"{origin}/_sim/secrets").json()

    assert secrets["replicate"].startswith("whsec_")
    assert secrets["kie"] == KIE_KEY
    assert secrets["fal_private_seed_hex"] == FAL_SEED.hex()
    assert secrets["fal_public_x"] == "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"


def test_the_predictions_of_all_asynchronous_providers_are_listed(origin: str, receiver: Receiver) -> None:
    for name in ("replicate", "kie", "fal"):
        provider(origin, name).post(*hooked(name, *CALLS[name], receiver))

    found = inspected(origin, receiver.url)

    assert [create["provider"] for create in found["creates"]] == ["replicate", "kie", "fal"]
    assert sorted(job["provider"] for job in found["predictions"]) == ["fal", "kie", "replicate"]


@pytest.mark.parametrize("name", ["replicate", "kie", "fal"])
@pytest.mark.parametrize(("fault", "seen"), [("early", 1), ("lost", 0)])
def test_a_webhook_comes_before_the_create_has_answered_or_never(
    origin: str, receiver: Receiver, name: str, fault: str, seen: int
) -> None:
    path, body = CALLS[name]
    body = json.loads(json.dumps(body).replace("a boat", f"[sim webhook={fault} delay=0]"))

    provider(origin, name).post(*hooked(name, path, body, receiver))

    eventually(lambda: inspected(origin, receiver.url)["predictions"][0]["status"] == "succeeded")
    assert len([one for one in receiver.bodies if one.get("status") != "processing"]) == seen


@pytest.mark.parametrize("model", ["google/veo-3", "meta/musicgen", "black-forest-labs/flux-dev"])
def test_a_large_file_is_streamed_and_stays_valid(origin: str, model: str) -> None:
    body = {"input": {"prompt": "x [sim bytes=20MB delay=0 seconds=1]"}}
    made = provider(origin, "replicate").post(
        f"/replicate/v1/models/{model}/predictions", body, headers={"prefer": "wait"}
    )
    output = made.json()["output"]
    url = output if isinstance(output, str) else output[0]

    whole = web.get(url)
    tail = web.get(url, headers={"range": "bytes=-5"})

    assert len(whole.content) == int(whole.headers["content-length"]) == 20_000_000
    assert tail.content == bytes(5)
    if "veo" in model:
        assert probed(whole.content, "-v", "info")[0] == pytest.approx(1, abs=0.1)


def test_the_simulator_holds_little_of_a_large_file(origin: str) -> None:
    before = _peak_mib()
    body = {"input": {"prompt": "x [sim bytes=300MB delay=0 seconds=1]"}}
    made = provider(origin, "replicate").post(
        "/replicate/v1/models/a/veo/predictions", body, headers={"prefer": "wait"}
    )

    received = 0
    with web.stream("GET", made.json()["output"]) as answer:
        for chunk in answer.iter_raw():
            received += len(chunk)

    assert received == 300_000_000
    assert _peak_mib() - before < 50


def _peak_mib() -> float:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


def test_many_who_want_the_same_film_cost_one_process() -> None:
    from local.simulator.recordings import Film
    from local.simulator.studio import Studio

    async def twenty() -> tuple[set[bytes], int]:
        studio = Studio()
        made = await asyncio.gather(*(studio.make(Film("a boat", 2, 320, 180)) for _ in range(20)))
        studio.close()
        return set(made), studio.processes

    made, processes = asyncio.run(twenty())

    assert len(made) == 1
    assert processes == 1


def test_two_processes_at_most() -> None:
    from local.simulator.recordings import Sound
    from local.simulator.studio import Studio

    most = running = 0
    lock = threading.Lock()

    class Counting(Studio):
        def _run(self, *arguments: Any, **more: Any) -> str:
            nonlocal most, running
            with lock:
                running += 1
                most = max(most, running)
            try:
                return super()._run(*arguments, **more)
            finally:
                with lock:
                    running -= 1

    async def ten() -> None:
        studio = Counting()
        await asyncio.gather(*(studio.make(Sound("speech", 1, seed)) for seed in range(10)))
        studio.close()

    asyncio.run(ten())

    assert most == 2
