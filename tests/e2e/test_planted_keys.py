"""No secret is found anywhere: not in a table, an execution's history, a log or an answer, whatever providers say.

Every run of the local cloud makes secrets of its own. Jobs succeed, fail and are refused at every provider, also in
words that quote the key; then everything that was written down is searched for pieces of every secret.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from uuid import uuid4

import httpx
import pytest

from local.cloud import Stack
from shared.core.settings import PROVIDERS
from tests.e2e.helpers import at_once, logged
from tests.support import Json, Studio, plain

PIECE = 16
AT_ONCE = 3
REQUESTS = {
    "replicate": ("images", "prompt", {"model": "flux-schnell"}),
    "kie": ("images", "prompt", {"model": "nano-banana-2"}),
    "fal": ("images", "prompt", {"model": "fal-flux-dev"}),
    "openai": ("speech", "text", {"model": "gpt-4o-mini-tts"}),
    "elevenlabs": ("speech", "text", {"model": "eleven-multilingual-v2"}),
    "gemini": ("analyses", "prompt", {}),
}
QUOTED = "{key}"
# What each job may end as. A second attempt may come too late where the machine is busy; nobody's secrets depend on it.
WEATHER = {
    "": {"succeeded"},
    QUOTED: {"failed"},
    "outcome=failed": {"failed"},
    "create=402": {"failed"},
    "create=429 times=1": {"succeeded", "timed_out"},
    "create=drop-after-accept": {"succeeded", "failed"},
}
# At Gemini an empty account is told from a busy one by nobody.
CASES = [case for case in product(PROVIDERS, WEATHER) if case != ("gemini", "create=402")]


@dataclass
class Written:
    """What was written down, by the place where it is, and what the jobs of this module are called."""

    word: str
    jobs: dict[tuple[str, str], Json]
    batch: str
    places: dict[str, str] = field(default_factory=dict)


def secrets_of(stack: Stack, studio: Studio) -> dict[str, str]:
    """Every secret by its name: keys, signing secrets, and the tokens of callers."""
    client = stack.client("secretsmanager")
    found = {"token": str(studio.http.headers["authorization"]), "admin": stack.tokens["admin"]}
    for output, name in stack.outputs.items():
        if output.endswith("SecretName"):
            found |= dict(strings(client.get_secret_value(SecretId=name)["SecretString"], name))
    told = httpx.get(f"{stack.simulator_url}/_sim/secrets", trust_env=False).json()
    return found | {f"simulator {name}": told[name] for name in ("replicate", "kie", "fal_private_seed_hex")}


def strings(secret: str, name: str) -> Iterator[tuple[str, str]]:
    """The texts in a secret, which is one itself or a JSON object of them."""
    try:
        document = json.loads(secret)
    except ValueError:
        yield name, secret
        return
    for key, value in document.items():
        for number, text in enumerate(value if isinstance(value, list) else [value]):
            yield f"{name} {key} {number}", text


def leaks(places: dict[str, str], secrets: dict[str, str]) -> list[tuple[str, str]]:
    """Which secret is, at least in part, to be read where."""
    assert all(len(secret) >= 2 * PIECE for secret in secrets.values())
    return [
        (name, place)
        for name, secret in secrets.items()
        for place, text in places.items()
        if secret[-PIECE:] in text or secret[-2 * PIECE : -PIECE] in text
    ]


@pytest.fixture(scope="module")
def studio(stack: Stack) -> Iterator[Studio]:
    made = Studio(stack, f"planted-{uuid4().hex[:8]}")
    made.grant(10_000)
    yield made
    made.check_invariants()
    made.close()


@pytest.fixture(scope="module")
def written(stack: Stack, studio: Studio) -> Written:
    answers: list[str] = []
    studio.http.event_hooks["response"].append(partial(keep, answers))
    word = f"word{uuid4().hex}"
    video = studio.run(word, kind="videos", model="kling-3.0")["assets"][0]["id"]

    def run(provider: str, weather: str) -> Json:
        path, name, more = REQUESTS[provider]
        body: Json = {name: f"{word} {provider} [sim {weather}]", **more}
        if provider == "gemini":
            body["video"] = video
        return studio.wait(studio.post(path, body)["id"])

    # Processes that are new begin slowly, and the deadlines of speech are short here.
    at_once([partial(run, "openai", "")] * AT_ONCE)
    jobs = dict(zip(CASES, at_once([partial(run, *case) for case in CASES], workers=AT_ONCE), strict=True))
    batch = studio.post("batches", {"generations": [{"kind": "image", "prompt": f"{word} {QUOTED}"}]})
    for item in batch["items"]:
        studio.wait(item["id"])
    ask_for_everything(studio, batch["id"], video)

    found = Written(word, jobs, batch["id"])
    found.places = {
        **{f"table {name}": table(stack, name) for name in stack.tables},
        **dict(executions(stack)),
        **dict(logs(stack)),
        "answers": "\n".join(answers),
    }
    return found


def keep(answers: list[str], response: httpx.Response) -> None:
    """What a caller gets; the request's own headers stay out of it."""
    response.read()
    answers.append(f"{response.status_code} {dict(response.headers)} {response.text}")


def ask_for_everything(studio: Studio, batch: str, asset: str) -> None:
    """Every kind of answer that the API has, also the refusals, and what the webhook's door says."""
    for path in ("/jobs", f"/batches/{batch}", f"/assets/{asset}", "/credits", "/credits/entries", "/openapi.json"):
        assert studio.http.get(path).status_code == 200
    studio.http.get("/health")
    studio.http.get("/jobs/job_unknown")
    studio.http.post("/images", json={"prompt": ""})
    studio.http.post("/images", content=b"{")
    studio.http.get("/credits", headers={"authorization": f"{studio.http.headers['authorization']}x"})
    for provider in ("replicate", "kie", "fal"):
        studio.http.post(f"{studio.stack.webhook_url}/{provider}", json={"id": "x"}, params={"job": "x"})


def table(stack: Stack, name: str) -> str:
    pages = stack.client("dynamodb").get_paginator("scan").paginate(TableName=stack.tables[name], ConsistentRead=True)
    return "\n".join(str(plain(item)) for page in pages for item in page["Items"])


def executions(stack: Stack) -> Iterator[tuple[str, str]]:
    """The history of every execution."""
    client = stack.client("stepfunctions")
    for machine in stack.state_machines.values():
        for page in client.get_paginator("list_executions").paginate(stateMachineArn=machine):
            for execution in page["executions"]:
                pages = client.get_paginator("get_execution_history").paginate(executionArn=execution["executionArn"])
                yield (
                    f"execution {execution['name']}",
                    "\n".join(str(event) for one in pages for event in one["events"]),
                )


def logs(stack: Stack) -> Iterator[tuple[str, str]]:
    """Everything that each function has logged."""
    client = stack.client("logs")
    for page in client.get_paginator("describe_log_groups").paginate():
        for group in page["logGroups"]:
            yield f"log {group['logGroupName']}", "\n".join(logged(stack, group["logGroupName"]))


# What was written down is where this test looks


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_the_jobs_end_as_they_should(written: Written, case: tuple[str, str]) -> None:
    job = written.jobs[case]

    assert job["status"] in WEATHER[case[1]], job["error"]
    if case[1] == QUOTED:
        # The provider did quote it, and the words around it are kept.
        assert "'***'" in job["error"]["detail"]


def test_the_search_finds_what_is_there(written: Written) -> None:
    ids = [job["id"] for job in written.jobs.values()]
    succeeded = [job["id"] for job in written.jobs.values() if job["assets"]]
    where = {
        "table jobs": [written.word, written.batch, *ids],
        "table ledger": ids,
        "table assets": succeeded,
        "answers": [*ids, written.batch, "unauthorized", "invalid_request", "malformed_json"],
    }
    for place, expected in where.items():
        assert [each for each in expected if each not in written.places[place]] == [], place
    started = [job["id"] for (_, weather), job in written.jobs.items() if weather in ("", "create=429 times=1")]
    assert [each for each in started if each not in written.places.get(f"execution {each}", "")] == []
    lines = "\n".join(text for place, text in written.places.items() if place.startswith("log "))
    assert [each for each in ids if each not in lines] == []
    assert lines.count("operator needed") >= len(PROVIDERS) - 1
    assert lines.count("provider has taken nothing") >= len(PROVIDERS)


def test_the_search_would_find_a_piece_of_any_secret(stack: Stack, studio: Studio, written: Written) -> None:
    secrets = secrets_of(stack, studio)

    assert {f"{stack.stack_name}/{provider} api_keys 0" for provider in PROVIDERS} < secrets.keys()
    for name, secret in secrets.items():
        for planted in (secret, secret[-PIECE:], secret[-2 * PIECE : -1]):
            assert (name, "answers") in leaks({"answers": f"{written.places['answers']} …{planted}…"}, secrets)


def test_no_secret_is_written_down_anywhere(stack: Stack, studio: Studio, written: Written) -> None:
    assert leaks(written.places, secrets_of(stack, studio)) == []


def test_no_word_of_a_caller_is_logged(written: Written) -> None:
    assert [place for place, text in written.places.items() if place.startswith("log ") and written.word in text] == []
