"""`make demo`: the main job on a local cloud of its own, every result checked, the media kept in demo-output/.

Every kind of generation is requested, produced by a simulated provider, stored and paid for: a portrait that is brought
to life by a spoken text, images, a long video, music, its stems, a transcript of the speech, an analysis of the video.
One request fails at the provider, and its credits come back; its end is told by a signed callback, which is verified.
At last a logo is uploaded, a project puts it over what was generated, and the video goes to Postiz as a draft.
"""

import hashlib
import io
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from PIL import Image, ImageDraw
from standardwebhooks import Webhook, WebhookVerificationError

from local.cloud import CloudError, Stack, local_cloud
from shared.media import images, probe
from shared.media.images import NotAnImage
from shared.media.probe import NotMedia
from shared.media.types import EXTENSIONS

ACCOUNT = "alice"
LONGEST_WAIT_S = 120.0
CALLBACK_WITHIN_S = 30.0
OVER = ("succeeded", "failed", "canceled", "timed_out")

type Json = dict[str, Any]
type Say = Callable[[str], None]


class DemoError(Exception):
    """What the demo saw is not what it should have seen."""


type Made = dict[str, str]
"""The first asset of every scene that was played."""


@dataclass(frozen=True)
class Scene:
    """A request of the walk, which may need what was made before it, and how it must end."""

    name: str
    path: str
    body: Callable[[Made], Json]
    files: int


@dataclass(frozen=True)
class Played:
    """How a scene ended: the job, the seconds it took, and the files it left in demo-output/."""

    scene: Scene
    job: Json
    seconds: float
    files: tuple[Path, ...]


TEXT = "Every evening I light the lamp, and every morning the ships have gone by."

SCENES = (
    Scene("portrait", "portraits", lambda _: {"prompt": "An old lighthouse keeper, warm light, smiling"}, 1),
    Scene("speech", "speech", lambda _: {"text": TEXT}, 1),
    Scene("character", "character-videos", lambda made: {"image": made["portrait"], "audio": made["speech"]}, 1),
    Scene("images", "images", lambda _: {"prompt": "A harbour at dusk, long exposure", "count": 2}, 2),
    # Eight seconds at the provider stand for twenty minutes: the workflow's transitions are the same.
    Scene("video", "videos", lambda _: {"prompt": "Ships pass the lighthouse at night [sim delay=8]"}, 1),
    Scene("music", "music", lambda _: {"prompt": "Calm piano, slow, warm"}, 2),
    Scene("stems", "stems", lambda made: {"audio": made["music"]}, 2),
    Scene("transcript", "transcriptions", lambda made: {"audio": made["speech"], "prompt": f'[sim say="{TEXT}"]'}, 3),
    Scene("analysis", "analyses", lambda made: {"video": made["video"], "prompt": "moments with ships"}, 1),
    Scene("refund", "images", lambda _: {"prompt": "A storm nobody can paint [sim outcome=failed]"}, 0),
)


def main() -> int:
    root = Path(__file__).resolve().parent.parent
    begun = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - begun:5.1f}s] {line}", flush=True)

    try:
        with local_cloud(
            root=root, state_dir=root / ".local" / "demo", simulator_url=os.environ.get("SIMULATOR_URL"), say=say
        ) as stack:
            played = walk(stack, root / "demo-output", say)
        print(table(played))
        print(
            f"\nThe media are in demo-output/. Everything is taken down again after {time.monotonic() - begun:.0f} s."
        )
        return 0
    except (CloudError, DemoError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except httpx.HTTPError as error:
        print(f"demo: the local cloud did not answer: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted; everything is stopped", file=sys.stderr)
        return 130


def walk(stack: Stack, output: Path, say: Say) -> list[Played]:
    """Play every scene and check it, then the ledger. Raises DemoError."""
    output.mkdir(exist_ok=True)
    headers = {"authorization": f"Bearer {stack.tokens[ACCOUNT]}"}
    with httpx.Client(base_url=f"{stack.api_url}/v1", headers=headers, timeout=30, trust_env=False) as http:
        before = _get(http, "/credits")
        receiver = f"{stack.simulator_url}/_sim/callbacks/demo"
        secret = _post(http, "/callbacks/secret/rotate")["secret"]
        played: list[Played] = []
        made: Made = {}
        for scene in SCENES:
            body = scene.body(made) | ({} if scene.files else {"callback_url": receiver})
            played.append(play(http, scene, body, output, say))
            if scene.files:
                made[scene.name] = played[-1].job["assets"][0]["id"]
        check_ledger(http, before, played, say)
        check_callback(receiver, secret, [item.job for item in played if not item.scene.files], say)
        logo = upload(http, logo_png(), "logo.png", say)
        edit(http, made, logo, say)
        publish(http, stack, made["video"], say)
    return played


def play(http: httpx.Client, scene: Scene, body: Json, output: Path, say: Say) -> Played:
    """Request it, watch it, and check what came of it."""
    begun = time.monotonic()
    answer = http.post(f"/{scene.path}", json=body)
    if answer.status_code != 202:
        raise DemoError(f"POST /v1/{scene.path} answered {answer.status_code}: {answer.text}")
    job = answer.json()
    say(f"POST /v1/{scene.path} → 202 {job['id']}, {job['credits']['held']} credits held")
    seen = [job["status"]]
    while job["status"] not in OVER:
        if time.monotonic() - begun > LONGEST_WAIT_S:
            raise DemoError(f"{job['id']} is still {job['status']} after {LONGEST_WAIT_S:.0f} s")
        time.sleep(0.05)
        job = _get(http, f"/jobs/{job['id']}")
        if job["status"] != seen[-1]:
            seen.append(job["status"])
    seconds = time.monotonic() - begun
    say(f"    {' → '.join(seen)} in {seconds:.1f} s, {job['credits']['charged']} credits charged")
    expected = "succeeded" if scene.files else "failed"
    if job["status"] != expected:
        raise DemoError(f"{job['id']} should be {expected}, and is {job['status']}: {job['error']}")
    files = tuple(
        keep(http, asset, output / f"{scene.name}-{asset['role'] or number}")
        for number, asset in enumerate(job["assets"], start=1)
    )
    if len(files) != scene.files:
        raise DemoError(f"{job['id']} has {len(files)} files instead of {scene.files}")
    return Played(scene, job, seconds, files)


def keep(http: httpx.Client, asset: Json, stem: Path) -> Path:
    """Download an asset, check that it is the one the job tells of and that it decodes, and write it down."""
    answer = http.get(f"/assets/{asset['id']}/content", follow_redirects=True)
    if answer.status_code != 200:
        raise DemoError(f"the content of {asset['id']} answered {answer.status_code}")
    content = answer.content
    if (len(content), hashlib.sha256(content).hexdigest()) != (asset["bytes"], asset["sha256"]):
        raise DemoError(f"the content of {asset['id']} is not what was stored")
    try:
        found = measure(content, asset["content_type"])
    except (OSError, ValueError, NotAnImage, NotMedia) as error:
        raise DemoError(f"{asset['id']} does not decode: {error}") from error
    if found != (asset["width"], asset["height"], asset["duration_s"]):
        raise DemoError(f"{asset['id']} is {found}, and the job says something else")
    path = stem.with_suffix(EXTENSIONS[asset["content_type"]])
    path.write_bytes(content)
    return path


def measure(content: bytes, content_type: str) -> tuple[int | None, int | None, float | None]:
    """Width, height and seconds of a file that decodes. Raises what the decoders raise, and ValueError."""
    match content_type.partition("/")[0]:
        case "image":
            return (*images.measure(io.BytesIO(content), content_type), None)
        case "video" | "audio":
            found = probe.measure(io.BytesIO(content), content_type)
            return found.width, found.height, found.duration_s
    if content_type == "application/json":
        json.loads(content)
    elif "-->" not in content.decode():
        raise ValueError("these are no captions")
    return None, None, None


def check_ledger(http: httpx.Client, before: Json, played: list[Played], say: Say) -> None:
    """The balances are those before, less what was charged, and every entry leads to the next."""
    after = _get(http, "/credits")
    charged = sum(item.job["credits"]["charged"] for item in played)
    expected = {"available": before["available"] - charged, "held": 0, "spent": before["spent"] + charged}
    if after != expected:
        raise DemoError(f"the ledger does not balance: {after} instead of {expected}")
    entries = _get(http, "/credits/entries?limit=100")["items"]
    effects = {"grant": (1, 0, 0), "hold": (-1, 1, 0), "capture": (0, -1, 1), "release": (1, -1, 0)}
    balances = (0, 0, 0)
    for entry in reversed(entries):
        change = effects[entry["type"]]
        balances = tuple(was + entry["amount"] * by for was, by in zip(balances, change, strict=True))
        if balances != (entry["available"], entry["held"], entry["spent"]):
            raise DemoError(f"entry {entry['id']} does not follow from the one before it")
    say(f"the ledger balances: {len(entries)} entries, {after['available']} available, {after['spent']} spent")


def check_callback(receiver: str, secret: str, jobs: list[Json], say: Say) -> None:
    """Each of the jobs was told to the receiver, and Standard Webhooks' own library takes it for genuine."""
    deadline = time.monotonic() + CALLBACK_WITHIN_S
    while len(calls := httpx.get(receiver, trust_env=False).json()["calls"]) < len(jobs):
        if time.monotonic() > deadline:
            raise DemoError(f"{len(calls)} callbacks instead of {len(jobs)} after {CALLBACK_WITHIN_S:.0f} s")
        time.sleep(0.1)
    for call in calls:
        try:
            Webhook(secret).verify(call["body"], call["headers"])
        except WebhookVerificationError as error:
            raise DemoError(f"a callback does not verify: {error}") from error
        event = json.loads(call["body"])
        if event["data"]["id"] not in [job["id"] for job in jobs]:
            raise DemoError(f"a callback of another job: {event}")
        say(f"callback {event['type']} of {event['data']['id']}: signed, verified")


def upload(http: httpx.Client, content: bytes, name: str, say: Say) -> str:
    """Bring a picture in by its presigned form, wait until it was inspected, and find it in the library; its asset."""
    begun = time.monotonic()
    made = _post(http, "/uploads", {"content_type": "image/png", "bytes": len(content), "name": name}, status=201)
    sent = httpx.post(made["post"]["url"], data=made["post"]["fields"], files={"file": content}, trust_env=False)
    if sent.status_code not in (200, 201, 204):
        raise DemoError(f"the form of {made['id']} answered {sent.status_code}: {sent.text}")
    found = _eventually(http, f"/uploads/{made['id']}", "state", ("ready", "rejected"))
    listed = _get(http, "/assets?source=upload")["items"]
    if found["state"] != "ready" or listed[0]["id"] != found["asset"]["id"]:
        raise DemoError(f"the upload was not taken: {found}")
    say(f"{name} uploaded, inspected and in the library: {found['asset']['id']}, {time.monotonic() - begun:.1f} s")
    return str(found["asset"]["id"])


def logo_png() -> bytes:
    """A lighthouse of a few strokes on nothing."""
    image = Image.new("RGBA", (160, 160))
    drawing = ImageDraw.Draw(image)
    drawing.polygon([(60, 150), (70, 50), (90, 50), (100, 150)], fill="white")
    drawing.ellipse((64, 20, 96, 52), fill="gold")
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def edit(http: httpx.Client, made: Made, logo: str, say: Say) -> None:
    """A project of what was generated, with the logo over it."""
    clips: list[Json] = [{"asset": made["video"]}, {"asset": made["images"], "duration": 3, "effect": "zoom_in"}]
    tracks: list[Json] = [
        {"type": "video", "clips": clips},
        {"type": "overlay", "clips": [{"asset": logo, "start": 0, "duration": 3, "opacity": 0.8}]},
        {"type": "audio", "role": "voice", "clips": [{"asset": made["speech"], "start": 0}]},
    ]
    project = _post(
        http, "/projects", {"title": "The lighthouse", "timeline": {"fps": 30, "tracks": tracks}}, status=201
    )
    say(f"project {project['id']}: {len(clips)} clips, a logo, a voice")


def publish(http: httpx.Client, stack: Stack, asset_id: str, say: Say) -> None:
    """Hand the video to Postiz as a draft, and see that exactly one post is there."""
    text = f"Ships pass the lighthouse ({asset_id})"
    wanted: Json = {"mode": "draft", "text": text, "channels": [{"id": "int-x"}]}
    made = _post(http, f"/assets/{asset_id}/publications", wanted, status=202)
    over = ("draft", "published", "partly_published", "failed", "canceled")
    found = _eventually(http, f"/publications/{made['id']}", "status", over)
    seen = httpx.get(f"{stack.simulator_url}/_sim/posts", params={"contains": text}, trust_env=False).json()["posts"]
    if found["status"] != "draft" or [post["state"] for post in seen] != ["DRAFT"]:
        raise DemoError(f"the publication is {found}, and Postiz has {seen}")
    say(f"publication {made['id']}: a draft on {found['channels'][0]['name']}, one post at Postiz")


def table(played: list[Played]) -> str:
    """What was asked for, how it ended, how long it took and what it cost."""
    rows = [("request", "status", "seconds", "held", "charged", "files")]
    rows += [
        (
            item.scene.name,
            item.job["status"],
            f"{item.seconds:.1f}",
            str(item.job["credits"]["held"]),
            str(item.job["credits"]["charged"]),
            ", ".join(path.name for path in item.files) or f"– ({item.job['error']['code']}, credits returned)",
        )
        for item in played
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(["", lines[0], "-" * len(lines[0]), *lines[1:]])


def _eventually(http: httpx.Client, path: str, name: str, values: tuple[str, ...]) -> Json:
    """What is there once its field `name` has one of the values."""
    deadline = time.monotonic() + LONGEST_WAIT_S
    while (found := _get(http, path))[name] not in values:
        if time.monotonic() > deadline:
            raise DemoError(f"{path} is still {found[name]} after {LONGEST_WAIT_S:.0f} s")
        time.sleep(0.05)
    return found


def _post(http: httpx.Client, path: str, body: Json | None = None, *, status: int = 200) -> Json:
    answer = http.post(path, json=body)
    if answer.status_code != status:
        raise DemoError(f"POST /v1{path} answered {answer.status_code}: {answer.text}")
    return dict(answer.json())


def _get(http: httpx.Client, path: str) -> Json:
    answer = http.get(path)
    if answer.status_code != 200:
        raise DemoError(f"GET /v1{path} answered {answer.status_code}: {answer.text}")
    return dict(answer.json())


if __name__ == "__main__":
    sys.exit(main())
