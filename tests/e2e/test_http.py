"""The HTTP contract (DESIGN §5) as the deployed API keeps it."""

import re
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from openapi_spec_validator import validate

from local.cloud import Stack
from shared.jobs import catalog
from shared.jobs.requests import OF_PROJECTS, REQUESTS
from tests.e2e.helpers import IMAGE, PORTRAIT, at_once, check_assets, check_paid, check_problem, eventually
from tests.support import Json, Studio, job_rows

NewStudio = Callable[..., Studio]

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


# Jobs


def test_a_job_is_told_as_the_contract_says(studio: Studio) -> None:
    created = studio.create("a lighthouse", kind="portraits", count=2, seed=7, metadata={"order": "9"})
    assert created["status"] in ("submitting", "processing")
    assert created["credits"] == {"held": 2 * PORTRAIT, "charged": 0}
    assert studio.credits() == {"available": 100 - 2 * PORTRAIT, "held": 2 * PORTRAIT, "spent": 0}

    job = studio.wait(created["id"])

    assert job.keys() == {
        "id", "kind", "model", "status", "progress", "credits", "assets", "error", "metadata", "callback_url",
        "created_at", "updated_at", "deadline",
    }  # fmt: skip
    assert (job["kind"], job["model"], job["status"]) == ("portrait", "flux-dev-portrait", "succeeded")
    assert (job["progress"], job["error"], job["metadata"]) == (100, None, {"order": "9"})
    assert job["credits"] == {"held": 2 * PORTRAIT, "charged": 2 * PORTRAIT}
    assert all(RFC3339.fullmatch(job[name]) for name in ("created_at", "updated_at", "deadline"))
    assert job["created_at"] < job["updated_at"] < job["deadline"]
    for asset in job["assets"]:
        assert asset.keys() == {"id", "role", "content_type", "url", "bytes", "sha256", "duration_s", "width", "height"}
        # 3:4, the first of the model's ratios.
        assert abs(asset["width"] / asset["height"] - 3 / 4) < 0.02
    check_assets(studio, job, count=2)
    check_paid(studio, job, 2 * PORTRAIT)


def test_a_model_can_be_chosen(studio: Studio) -> None:
    job = studio.run("a lighthouse", model="flux-1.1-pro", aspect_ratio="16:9")

    (asset,) = job["assets"]
    assert abs(asset["width"] / asset["height"] - 16 / 9) < 0.05
    check_paid(studio, job, 15)


@pytest.mark.parametrize(
    ("kind", "count", "price"), [("images", 1, IMAGE), ("images", 4, 4 * IMAGE), ("portraits", 2, 20)]
)
def test_a_dry_run_tells_the_price_and_does_nothing(studio: Studio, kind: str, count: int, price: int) -> None:
    answer = studio.http.post(f"/{kind}", json={"prompt": "x", "count": count}, params={"dry_run": "true"})

    assert answer.status_code == 200
    assert answer.json()["estimate"]["credits"] == price
    assert studio.credits() == {"available": 100, "held": 0, "spent": 0}
    assert job_rows(studio.stack, studio.account) == []


def test_a_dry_run_needs_no_credits_and_no_key(new_studio: NewStudio) -> None:
    studio = new_studio(0)
    headers = {"idempotency-key": "later"}

    answers = [
        studio.http.post("/images", json={"prompt": prompt}, params={"dry_run": "true"}, headers=headers)
        for prompt in ("x", "y")
    ]

    assert [answer.status_code for answer in answers] == [200, 200]


def test_a_repeat_under_the_same_key_answers_the_same_job(studio: Studio) -> None:
    request = {"prompt": "a lighthouse", "seed": 1}
    headers = {"idempotency-key": "order-1"}
    first = studio.http.post("/images", json=request, headers=headers)
    job = studio.wait(first.json()["id"])

    again = studio.http.post("/images", json=dict(reversed(request.items())), headers=headers)

    assert (first.status_code, again.status_code) == (202, 202)
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert first.headers["x-request-id"] != again.headers["x-request-id"]
    assert again.json()["id"] == job["id"]
    # As it is now, with its files.
    assert again.json()["status"] == "succeeded"
    assert httpx.get(again.json()["assets"][0]["url"], trust_env=False).status_code == 200
    check_paid(studio, job, IMAGE)


def test_a_repeat_of_a_refused_request_may_succeed(new_studio: NewStudio) -> None:
    studio = new_studio(0)
    headers = {"idempotency-key": "order-2"}
    refused = studio.http.post("/images", json={"prompt": "x"}, headers=headers)
    check_problem(refused, 402, "insufficient_credits")
    studio.grant(IMAGE)

    accepted = studio.http.post("/images", json={"prompt": "x"}, headers=headers)

    assert accepted.status_code == 202
    assert "idempotency-replayed" not in accepted.headers
    assert studio.wait(accepted.json()["id"])["status"] == "succeeded"


# Lists


@pytest.fixture(scope="module")
def library(stack: Stack) -> Iterator[Studio]:
    """An account with seven jobs that are over: five images, two of them failed, and two portraits."""
    studio = Studio(stack, f"library-{uuid4().hex[:12]}")
    studio.grant(60)
    studio.grant(40)
    wanted = [("images", ""), ("images", "outcome=failed"), ("portraits", ""), ("images", "")]
    wanted += [("images", "outcome=failed"), ("portraits", ""), ("images", "")]
    jobs = [studio.create(f"[sim {words}]", kind=kind) for kind, words in wanted]
    for job in jobs:
        studio.wait(job["id"])
    yield studio
    studio.check_invariants()
    studio.close()


def pages(studio: Studio, path: str, **params: Any) -> list[list[Json]]:
    """Every page of a list."""
    found: list[list[Json]] = []
    while True:
        answer = studio.http.get(path, params=params)
        assert answer.status_code == 200, answer.text
        assert answer.json().keys() == {"items", "next_cursor"}
        found.append(answer.json()["items"])
        if answer.json()["next_cursor"] is None:
            return found
        params["cursor"] = answer.json()["next_cursor"]


def test_jobs_are_listed_newest_first(library: Studio) -> None:
    (jobs,) = pages(library, "/jobs")

    assert len(jobs) == 7
    assert jobs == sorted(jobs, key=lambda job: job["created_at"], reverse=True)
    alone = library.job(jobs[0]["id"])
    assert {**jobs[0], "assets": len(jobs[0]["assets"])} == {**alone, "assets": len(alone["assets"])}


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7, 100])
def test_the_pages_of_jobs_are_the_list_cut_up(library: Studio, limit: int) -> None:
    whole = [job["id"] for job in library.http.get("/jobs").json()["items"]]

    cut = pages(library, "/jobs", limit=limit)

    assert [job["id"] for page in cut for job in page] == whole
    assert [len(page) for page in cut[:-1]] == [limit] * (len(cut) - 1)
    # No empty page behind the last full one.
    assert 0 < len(cut[-1]) <= limit


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ({"kind": "image"}, 5),
        ({"kind": "portrait"}, 2),
        ({"status": "succeeded"}, 5),
        ({"status": "failed"}, 2),
        ({"kind": "portrait", "status": "failed"}, 0),
        ({"kind": "image", "status": "succeeded"}, 3),
        ({"status": "queued"}, 0),
    ],
)
@pytest.mark.parametrize("limit", [1, 2, 20])
def test_jobs_are_filtered(library: Studio, filters: dict[str, str], count: int, limit: int) -> None:
    cut = pages(library, "/jobs", limit=limit, **filters)

    jobs = [job for page in cut for job in page]
    assert len({job["id"] for job in jobs}) == len(jobs) == count
    assert all(job[name] == value for job in jobs for name, value in filters.items())
    assert [len(page) for page in cut[:-1]] == [limit] * (len(cut) - 1)


def test_a_new_job_does_not_shift_the_pages_that_follow(studio: Studio) -> None:
    old = [studio.create("[sim outcome=failed]")["id"] for _ in range(3)]
    first = studio.http.get("/jobs", params={"limit": 2}).json()

    newest = studio.create("[sim outcome=failed]")["id"]
    second = studio.http.get("/jobs", params={"limit": 2, "cursor": first["next_cursor"]}).json()

    assert [job["id"] for job in [*first["items"], *second["items"]]] == old[::-1]
    for job_id in [*old, newest]:
        studio.wait(job_id)


EFFECTS = {"grant": (1, 0, 0), "hold": (-1, 1, 0), "capture": (0, -1, 1), "release": (1, -1, 0)}


@pytest.mark.parametrize("limit", [1, 4, 16, 100])
def test_every_line_of_the_ledger_follows_from_the_one_before(library: Studio, limit: int) -> None:
    cut = pages(library, "/credits/entries", limit=limit)

    entries = [entry for page in cut for entry in page]
    # Two grants, and a hold and its end for each of seven jobs.
    assert len({entry["id"] for entry in entries}) == len(entries) == 16
    assert [len(page) for page in cut[:-1]] == [limit] * (len(cut) - 1)
    balances = (0, 0, 0)
    for entry in reversed(entries):
        assert entry["amount"] > 0
        assert (entry["job_id"] is None) == (entry["type"] == "grant")
        change = EFFECTS[entry["type"]]
        balances = tuple(was + by * entry["amount"] for was, by in zip(balances, change, strict=True))
        assert (entry["available"], entry["held"], entry["spent"]) == balances
        assert min(balances) >= 0
    assert (
        tuple(library.credits().values()) == balances == (100 - 3 * IMAGE - 2 * PORTRAIT, 0, 3 * IMAGE + 2 * PORTRAIT)
    )


def test_the_list_of_a_new_account_is_empty(new_studio: NewStudio) -> None:
    studio = new_studio(0)

    assert studio.credits() == {"available": 0, "held": 0, "spent": 0}
    for path in ("/jobs", "/credits/entries"):
        assert studio.http.get(path).json() == {"items": [], "next_cursor": None}


def test_a_grant_answers_its_entry(new_studio: NewStudio) -> None:
    studio = new_studio(0)
    admin = {"authorization": f"Bearer {studio.stack.tokens['admin']}"}

    answer = studio.http.post(
        f"/admin/accounts/{studio.account}/grants", json={"amount": 7, "reason": "welcome"}, headers=admin
    )

    assert answer.status_code == 201
    entry = answer.json()
    assert (entry["type"], entry["amount"], entry["available"], entry["reason"]) == ("grant", 7, 7, "welcome")
    assert studio.entries() == [entry]


# Models and assets


def test_the_catalogue_says_what_is_on_offer(library: Studio) -> None:
    answer = library.http.get("/models")

    assert answer.status_code == 200
    offered = answer.json()["items"]
    kinds = [*REQUESTS, *OF_PROJECTS]
    expected = [(model.id, kind) for kind in kinds for model in catalog.of_kind(kind)]
    assert sorted((model["id"], model["kind"]) for model in offered) == sorted(expected)
    for model in offered:
        known = catalog.models()[model["id"]]
        assert model["price"] == vars(known.price)
        assert model["limits"]["max_count"] == known.limits.max_count
        assert model["limits"]["deadline_s"] == known.deadline_s
        assert model["defaults"].get("aspect_ratio") in (None, *model["limits"]["aspect_ratios"])
        assert model["input_schema"]["additionalProperties"] is False
        assert model["input_schema"]["required"]
    for kind in kinds:
        assert [model["default"] for model in offered if model["kind"] == kind].count(True) == 1


def test_an_asset_and_its_content(library: Studio) -> None:
    job = library.http.get("/jobs", params={"status": "succeeded", "limit": 1}).json()["items"][0]
    (known,) = job["assets"]

    asset = library.http.get(f"/assets/{known['id']}")
    content = library.http.get(f"/assets/{known['id']}/content")

    assert asset.status_code == 200
    assert {name: asset.json()[name] for name in ("id", "sha256", "bytes", "width", "height", "content_type")} == {
        name: known[name] for name in ("id", "sha256", "bytes", "width", "height", "content_type")
    }
    assert (asset.json()["job_id"], asset.json()["kind"]) == (job["id"], job["kind"])
    assert content.status_code == 302
    assert content.content == b""
    assert content.headers["cache-control"] == "no-store"


def test_a_range_of_an_asset_can_be_fetched(library: Studio) -> None:
    job = library.http.get("/jobs", params={"status": "succeeded", "limit": 1}).json()["items"][0]
    (asset,) = job["assets"]
    location = library.http.get(f"/assets/{asset['id']}/content").headers["location"]

    whole = httpx.get(location, trust_env=False)
    part = httpx.get(location, headers={"range": "bytes=8-23"}, trust_env=False)

    assert whole.status_code == 200
    assert whole.headers["content-type"] == asset["content_type"]
    assert part.status_code == 206
    assert part.headers["content-range"] == f"bytes 8-23/{asset['bytes']}"
    assert part.content == whole.content[8:24]
    # The address is good for this file only.
    other = location.replace(asset["id"], "as_00000000000000000000000000")
    assert httpx.get(other, trust_env=False).status_code == 403


# What is open


def test_health_asks_for_no_token(stack: Stack) -> None:
    answer = httpx.get(f"{stack.api_url}/v1/health", trust_env=False)

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert answer.headers["x-request-id"]


@pytest.fixture(scope="module")
def document(stack: Stack) -> Json:
    """The OpenAPI document, fetched without a token."""
    answer = httpx.get(f"{stack.api_url}/v1/openapi.json", timeout=60, trust_env=False)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return dict(answer.json())


def operations(document: Json) -> dict[str, Json]:
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_the_openapi_document_has_every_route_of_the_template(stack: Stack, document: Json) -> None:
    gateway = stack.client("apigatewayv2")
    (api_id,) = [one["ApiId"] for one in gateway.get_apis()["Items"] if one["ApiId"] in stack.api_url]
    routes = {route["RouteKey"] for route in gateway.get_routes(ApiId=api_id)["Items"]} - {"$default"}

    assert operations(document).keys() == routes


def test_the_openapi_document_is_openapi_3_1(document: Json) -> None:
    assert re.fullmatch(r"3\.1\.\d+", document["openapi"])
    validate(document)


def test_the_openapi_document_says_who_may_call_what(document: Json) -> None:
    needed = {key: operation["security"] for key, operation in operations(document).items()}

    for key in ("GET /v1/health", "GET /v1/openapi.json", "GET /v1/docs"):
        assert needed.pop(key) == []
    for key, security in needed.items():
        scope = "admin" if " /v1/admin/" in key else "studio"
        assert security == [{"jwt": [scope]}, {"api_key": [scope]}], key


def test_the_page_of_the_document_loads_and_runs_nothing(stack: Stack, document: Json) -> None:
    answer = httpx.get(f"{stack.api_url}/v1/docs", timeout=60, trust_env=False)

    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for operation in operations(document).values():
        assert f'id="{operation["operationId"]}"' in answer.text


def test_the_openapi_document_knows_the_fields_of_the_answers(document: Json, library: Studio) -> None:
    answer = operations(document)["GET /v1/jobs/{job_id}"]["responses"]["200"]["content"]["application/json"]["schema"]
    name = answer["$ref"].rpartition("/")[2]
    job = library.http.get("/jobs").json()["items"][0]

    assert document["components"]["schemas"][name]["properties"].keys() == job.keys()


# Request ids


def test_the_request_id_is_in_the_log_of_the_function(studio: Studio) -> None:
    good = studio.http.post("/images", json={"prompt": "[sim outcome=failed]"})
    bad = studio.http.post("/images", json={"prompt": ""})
    assert (good.status_code, bad.status_code) == (202, 422)

    logs = studio.stack.client("logs")
    group = f"/atelier/{studio.stack.stack_name}"
    for answer in (good, bad):
        request_id = answer.headers["x-request-id"]

        def lines(request_id: str = request_id) -> list[str]:
            found = logs.filter_log_events(logGroupName=group, filterPattern=f'"{request_id}"')
            return [event["message"] for event in found["events"]]

        written = eventually(lines, timeout=15, what=f"line with {request_id}")
        assert all(f'"request_id":"{request_id}"' in line for line in written if line.startswith("{"))
        assert not any("eyJ" in line for line in written)
    # A job's lines carry the job as well.
    accepted = logs.filter_log_events(logGroupName=group, filterPattern=f'"{good.json()["id"]}"')["events"]
    assert any(good.headers["x-request-id"] in event["message"] for event in accepted)
    studio.wait(good.json()["id"])


def test_every_answer_has_a_request_id_of_its_own(library: Studio) -> None:
    answers = at_once([lambda: library.http.get("/credits")] * 10)

    assert len({answer.headers["x-request-id"] for answer in answers}) == 10
