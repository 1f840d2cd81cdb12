"""What tests do with the deployed stack: as an account through the public API, and as root to look behind it."""

import json
import time
from collections import Counter
from typing import Any

import httpx
from boto3.dynamodb.types import TypeDeserializer

from local.cloud import Stack

TERMINAL = {"succeeded", "failed", "canceled", "timed_out"}
Json = dict[str, Any]


class Studio:
    """One account: its HTTP client, and its view of jobs and credits."""

    def __init__(self, stack: Stack, account: str) -> None:
        self.stack = stack
        self.account = account
        headers = {"authorization": f"Bearer {stack.token(account)}"}
        limits = httpx.Limits(max_connections=200, max_keepalive_connections=50)
        # All of it is plain HTTP on loopback, and loading the authorities of TLS takes 30 ms for each account.
        self.http = httpx.Client(
            base_url=f"{stack.api_url}/v1", headers=headers, timeout=90, limits=limits, trust_env=False, verify=False
        )

    def close(self) -> None:
        self.http.close()

    def grant(self, amount: int) -> None:
        headers = {"authorization": f"Bearer {self.stack.tokens['admin']}"}
        answer = self.http.post(f"/admin/accounts/{self.account}/grants", json={"amount": amount}, headers=headers)
        assert answer.status_code == 201, answer.text

    def create(self, prompt: str, *, kind: str = "images", key: str | None = None, **fields: Any) -> Json:
        """POST a generation that must be accepted; the job."""
        return self.post(kind, {"prompt": prompt, **fields}, key=key)

    def post(self, path: str, body: Json, *, key: str | None = None) -> Json:
        """POST what must be accepted; the job, or the batch."""
        answer = self.http.post(f"/{path}", json=body, headers={"idempotency-key": key} if key else {})
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def job(self, job_id: str) -> Json:
        answer = self.http.get(f"/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def wait(self, job_id: str, *, until: set[str] = TERMINAL, timeout: float = 90) -> Json:
        """The job once its status is one of `until`."""
        deadline = time.monotonic() + timeout
        while True:
            job = self.job(job_id)
            if job["status"] in until:
                return job
            assert time.monotonic() < deadline, f"{job_id} is still {job['status']} after {timeout} s"
            time.sleep(0.1)

    def run(self, prompt: str, **options: Any) -> Json:
        """Create a generation and wait for its end."""
        return self.wait(self.create(prompt, **options)["id"])

    def credits(self) -> Json:
        answer = self.http.get("/credits")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def entries(self) -> list[Json]:
        """Every entry of the ledger, newest first."""
        found: list[Json] = []
        cursor = None
        while True:
            page = self.http.get("/credits/entries", params={"limit": 100, **({"cursor": cursor} if cursor else {})})
            assert page.status_code == 200, page.text
            found += page.json()["items"]
            cursor = page.json()["next_cursor"]
            if cursor is None:
                return found

    def simulated(self, job_id: str) -> Json:
        """What the simulated provider has seen of a job (see local/simulator/app.py)."""
        url = f"{self.stack.simulator_url}/_sim/predictions"
        answer = self.http.get(url, params={"webhook_contains": job_id})
        return dict(answer.json())

    def called(self, text: str) -> Json:
        """What the simulated providers that answer at once were asked with such a text in it."""
        return dict(self.http.get(f"{self.stack.simulator_url}/_sim/calls", params={"contains": text}).json())

    def check_invariants(self) -> None:
        """DESIGN §2, 1–3, from outside and from the tables."""
        for _ in range(20):
            items, told = rows(self.stack, "ledger", account=self.account), self.credits()
            found = job_rows(self.stack, self.account)
            if rows(self.stack, "ledger", account=self.account) == items:
                break  # Nothing has moved meanwhile: this is one moment.
        account = next((item for item in items if item["sort"] == "account"), None)
        entries = sorted((item for item in items if item["sort"].startswith("entry#")), key=lambda item: item["sort"])
        holds = {item["sort"].removeprefix("hold#"): item for item in items if item["sort"].startswith("hold#")}
        if account is None:
            assert not entries
            assert not holds
            return

        total = {kind: sum(entry["amount"] for entry in entries if entry["type"] == kind) for kind in ENTRY_TYPES}
        granted = total["grant"] - total["revoke"]
        assert account["available"] >= 0
        assert account["held"] >= 0
        assert account["available"] + account["held"] + account["spent"] == account["granted"] == granted
        assert account["available"] == granted - total["hold"] + total["release"]
        assert account["spent"] == total["capture"]
        assert account["held"] == sum(hold["amount"] for hold in holds.values() if hold["state"] == "open")
        balances = {name: account[name] for name in ("available", "held", "spent")}
        assert {name: entries[-1][name] for name in balances} == balances
        assert told == balances
        for hold in holds.values():
            assert 0 <= hold["captured"] <= hold["amount"]

        jobs = {job["id"]: job for job in found}
        batches = {hold_id: hold for hold_id, hold in holds.items() if hold_id.startswith("batch_")}
        assert jobs.keys() == holds.keys() - batches.keys()
        for job_id, job in jobs.items():
            state = holds[job_id]["state"]
            assert holds[job_id]["amount"] == job["hold"]
            if job["status"] == "succeeded":
                assert state == "captured"
                assert job["charged"] == holds[job_id]["captured"]
            elif job["status"] in TERMINAL:
                assert state == "released"
            else:
                assert state == "open"

        waiting = [kind for batch_id, hold in batches.items() for kind in self._not_split_off(batch_id, hold, jobs)]
        unfinished = Counter([job["kind"] for job in jobs.values() if job["status"] not in TERMINAL] + waiting)
        assert {kind: number for kind, number in account.get("in_flight", {}).items() if number} == unfinished

    def _not_split_off(self, batch_id: str, hold: Json, jobs: dict[str, Json]) -> list[str]:
        """The kinds of the batch's generations that have no job yet; its hold is for those, and for nothing else."""
        (batch,) = rows(self.stack, "jobs", id=batch_id)
        accepted = json.loads(batch["jobs"])
        missing = [job for job in accepted if job["id"] not in jobs]
        assert (hold["state"], hold["captured"]) == ("open", 0)
        assert hold["amount"] == sum(job["hold"] for job in missing)
        assert batch["hold"] == sum(job["hold"] for job in accepted)
        assert ("sweep_at" in batch) == (not batch["is_split"])
        if batch["is_split"]:
            assert missing == []
        return [job["kind"] for job in missing]


ENTRY_TYPES = ("grant", "hold", "capture", "release", "revoke")
_deserializer = TypeDeserializer()


def plain(item: Json) -> Json:
    """A DynamoDB item as Python values (numbers are Decimal)."""
    return {name: _deserializer.deserialize(value) for name, value in item.items()}


def rows(stack: Stack, table: str, **key: str) -> list[Json]:
    """Every item of a partition."""
    ((name, value),) = key.items()
    pages = (
        stack.client("dynamodb")
        .get_paginator("query")
        .paginate(
            TableName=stack.tables[table],
            KeyConditionExpression="#k = :v",
            ExpressionAttributeNames={"#k": name},
            ExpressionAttributeValues={":v": {"S": value}},
            ConsistentRead=True,
        )
    )
    return [plain(item) for page in pages for item in page["Items"]]


def job_rows(stack: Stack, account: str) -> list[Json]:
    """Every job of an account, as the table has it."""
    pages = (
        stack.client("dynamodb")
        .get_paginator("query")
        .paginate(
            TableName=stack.tables["jobs"],
            IndexName="by_account",
            KeyConditionExpression="account = :account",
            ExpressionAttributeValues={":account": {"S": account}},
        )
    )
    return [plain(item) for page in pages for item in page["Items"]]


def sweep(stack: Stack) -> None:
    """Run the deployed sweeper now."""
    name = stack.functions["SweepJobsFunction"]
    answer = stack.client("lambda").invoke(FunctionName=name, Payload=b"{}")
    assert "FunctionError" not in answer, answer["Payload"].read()


def history(stack: Stack, job_id: str) -> list[Json]:
    """The events of the job's first execution."""
    arn = stack.state_machines["generation"].replace(":stateMachine:", ":execution:") + f":{job_id}"
    pages = stack.client("stepfunctions").get_paginator("get_execution_history").paginate(executionArn=arn)
    return [event for page in pages for event in page["events"]]
