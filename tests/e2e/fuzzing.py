"""Schemathesis over the OpenAPI document: what is asked, and how often what was answered.

The document is tested as it is published, but stricter, and pointed at things that exist: an answer may have no field
that its schema does not name, a problem no code that its operation does not list, and ids are those of real things
half of the time.
"""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any
from uuid import uuid4

from shared.core.clock import iso
from tests.e2e.helpers import eventually
from tests.support import Json, Studio

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "ignored_auth",
)
"""Not those on methods (whatever is no route gets our 404, as on AWS), nor those that guess what ids mean."""

# What has too many entries may be too large before anybody counts them.
CONFIGURATION = """
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 428, 429, "5xx"]
"""

FILES = ("image", "audio", "video", "callback_url")
"""Fields of requests that name something which must exist."""

IN_EXAMPLES = (*FILES, "publish_at", "channels", "timeline", "media")
"""Fields of the documented examples that are as good as their day, or their deployment."""


@dataclass(frozen=True)
class Outcome:
    """What a run has found; `statuses` has how often which operation (`POST /v1/images`) was answered with what."""

    passed: bool
    report: str
    statuses: Mapping[str, Counter[int]]


def operations(document: Json) -> Iterator[tuple[str, Json]]:
    """`METHOD /path` and the operation."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def strict(document: Json) -> Json:
    """The document, with no field and no code that it does not name."""
    document = deepcopy(document)
    components = document["components"]
    asked = json.dumps([operation.get("requestBody") for _, operation in operations(document)])
    for name, schema in components["schemas"].items():
        if "properties" in schema and f'/schemas/{name}"' not in asked:
            schema["additionalProperties"] = False
    for response in components["responses"].values():
        content = response["content"]["application/problem+json"]
        codes = {"properties": {"code": {"enum": list(content["examples"])}}}
        content["schema"] = {"allOf": [content["schema"], codes]}
    return document


def prepare(studio: Studio) -> Mapping[str, list[Any]]:
    """Things that exist, by the names of the parameters and fields that ask for them."""
    receiver = f"{studio.stack.simulator_url}/_sim/callbacks/{studio.account}"
    assert studio.http.post("/callbacks/secret/rotate").status_code == 200
    jobs = {
        "image": studio.create("a lighthouse", callback_url=receiver),
        "video": studio.create("waves", kind="videos", callback_url=receiver),
    }
    batch = studio.post("batches", {"generations": [{"kind": "image", "prompt": "a lighthouse"}]})
    key = {"name": "fuzz", "scopes": ["studio"]}
    keys = [studio.http.post("/api-keys", json=key).json()["id"] for _ in range(6)]
    assets = {name: [asset["id"] for asset in studio.wait(job["id"])["assets"]] for name, job in jobs.items()}
    assert all(assets.values()), "nothing was made that could be asked for"
    for job in jobs.values():
        callback = f"/jobs/{job['id']}/callback"
        eventually(
            lambda callback=callback: studio.http.get(callback).json()["state"] == "delivered",
            timeout=60,
            what="callback",
        )
    clip = {"id": "c1", "asset": assets["video"][0], "in": 0, "out": 4}
    heard = studio.wait(studio.post("transcriptions", {"audio": assets["video"][0]})["id"])
    captions = {"asset": heard["assets"][0]["id"]}
    timeline = {"tracks": [{"type": "video", "clips": [clip]}], "captions": captions}
    harbour = {"title": "Harbour", "timeline": timeline}
    projects = [studio.http.post("/projects", json=harbour).json()["id"] for _ in range(6)]
    upload = {"content_type": "image/png", "bytes": 1000}
    uploads = [studio.http.post("/uploads", json=upload).json()["id"] for _ in range(6)]
    stock = studio.http.get("/stock", params={"query": "waves"}).json()["items"]
    channels = [{"id": channel["id"]} for channel in studio.http.get("/channels").json()["items"]][:1]
    publication = studio.http.post(
        f"/assets/{assets['image'][0]}/publications", json={"mode": "draft", "text": "Waves", "channels": channels}
    )
    return {
        **assets,
        "project_id": projects,
        "upload_id": uploads,
        "stock_id": [item["id"] for item in stock],
        "publication_id": [publication.json()["id"]],
        "publish_at": [iso(time.time() + 3600)],
        "channels": [channels],
        "timeline": [timeline],
        "media": [{}],
        "If-Match": ["*"],
        "audio": assets["video"],
        "callback_url": [receiver],
        "asset_id": [asset for found in assets.values() for asset in found],
        "job_id": [job["id"] for job in jobs.values()],
        "batch_id": [batch["id"]],
        "key_id": keys,
        # Nobody: what is granted to it and revoked of it must not be the account's own.
        "account_id": [f"fuzz-{uuid4().hex[:12]}"],
    }


def aimed(document: Json, known: Mapping[str, list[Any]]) -> Json:
    """The document, its parameters, fields and examples pointed at what exists half of the time."""
    document = deepcopy(document)
    # One operation deletes what it names, so each names another first.
    turns = {name: cycle(values) for name, values in known.items()}
    for _, operation in operations(document):
        for parameter in operation.get("parameters", []):
            if parameter["in"] in ("path", "header") and parameter["name"] in known:
                parameter["schema"] = _either(known[parameter["name"]], parameter["schema"])
                parameter["example"] = next(turns[parameter["name"]])
        example = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example", {})
        example |= {name: known[name][0] for name in example.keys() & {*IN_EXAMPLES}}
    for schema in document["components"]["schemas"].values():
        for name, field in schema.get("properties", {}).items():
            if name in FILES and name in known:
                schema["properties"][name] = _either(known[name], field)
    return document


def _either(real: list[str], schema: Json) -> Json:
    return {"anyOf": [{"type": "string", "enum": real}, schema]}


def run(
    document: Json, *, url: str, token: str, phases: Sequence[str], examples: int, directory: Path, workers: int = 4
) -> Outcome:
    """Ask every operation; in the phase `fuzzing` up to `examples` times."""
    location, report = directory / "openapi.json", directory / "report.ndjson"
    location.write_text(json.dumps(document))
    (directory / "schemathesis.toml").write_text(CONFIGURATION)
    options = {
        "url": url,
        "header": f"Authorization: Bearer {token}",
        "workers": str(workers),
        "checks": ",".join(CHECKS),
        "phases": ",".join(phases),
        "max-examples": str(examples),
        "report-ndjson-path": str(report),
        "generation-database": "none",
        "request-timeout": "60",
        "suppress-health-check": "all",
        "warnings": "off",
    }
    arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
    program = "from schemathesis.cli import schemathesis; schemathesis()"
    ended = subprocess.run(
        [sys.executable, "-c", program, "run", str(location), *arguments, "--continue-on-failure", "--no-color"],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    return Outcome(ended.returncode == 0, ended.stdout + ended.stderr, _statuses(report))


def _statuses(report: Path) -> dict[str, Counter[int]]:
    """From the run's events. A request that got no answer counts as 599."""
    found: dict[str, Counter[int]] = {}
    for line in report.read_text().splitlines():
        event = json.loads(line).get("ScenarioFinished")
        if event:
            exchanges = event["recorder"].get("interactions", {}).values()
            answers = [exchange["response"] or {"status_code": 599} for exchange in exchanges]
            found.setdefault(event["recorder"]["label"], Counter()).update(one["status_code"] for one in answers)
    return found
