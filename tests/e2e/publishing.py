"""What tests of publishing share: a file to publish, the simulated Postiz as root sees it, and time that is passed."""

import time
from contextlib import suppress
from typing import Any
from uuid import uuid4

from local.cloud import Stack
from shared.core.clock import iso
from tests.e2e.helpers import eventually
from tests.e2e.uploading import in_library, web
from tests.support import Json, Studio, rows

OVER = {"draft", "published", "partly_published", "failed", "canceled"}
PATIENCE_S = 60


def imported(studio: Studio) -> Json:
    """A photo of the stock, as an asset of the account."""
    found = studio.http.get("/stock", params={"query": f"lighthouse {uuid4().hex[:8]}", "per_page": 1})
    assert found.status_code == 200, found.text
    (item,) = found.json()["items"]
    answer = studio.http.post(f"/stock/{item['id']}/import", json={})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def request(text: str, *channels: str, **more: Any) -> Json:
    """The body of a publication."""
    return {"text": text, "channels": [{"id": channel} for channel in channels or ("int-x",)], **more}


def published(studio: Studio, asset: Json, body: Json, *, key: str | None = None) -> Json:
    """A publication that must be accepted."""
    return studio.post(f"assets/{asset['id']}/publications", body, key=key)


def publication(studio: Studio, publication_id: str) -> Json:
    answer = studio.http.get(f"/publications/{publication_id}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def ended(studio: Studio, made: Json, statuses: set[str] = OVER) -> Json:
    """The publication once its status is one of these."""

    def look() -> Json | None:
        found = publication(studio, made["id"])
        return found if found["status"] in statuses else None

    return eventually(look, timeout=PATIENCE_S, what=f"{made['id']} in one of {sorted(statuses)}")


def at_postiz(stack: Stack, text: str) -> Json:
    """The posts with this text, and every upload, as the simulated Postiz has them."""
    return dict(web.get(f"{stack.simulator_url}/_sim/posts", params={"contains": text}).json())


def posts(stack: Stack, text: str) -> list[Json]:
    return list(at_postiz(stack, text)["posts"])


def row(stack: Stack, publication_id: str) -> Json:
    (item,) = rows(stack, "publications", id=publication_id)
    return item


def change(stack: Stack, publication_id: str, **values: float) -> None:
    """Let times of an unfinished publication be others; one that is over stays as it is."""
    client = stack.client("dynamodb")
    with suppress(client.exceptions.ConditionalCheckFailedException):
        client.update_item(
            TableName=stack.tables["publications"],
            Key={"id": {"S": publication_id}},
            UpdateExpression="SET " + ", ".join(f"{name} = :{name}" for name in values),
            ConditionExpression="attribute_exists(sweep_at)",
            ExpressionAttributeValues={f":{name}": {"N": str(value)} for name, value in values.items()},
        )


def make_due(stack: Stack, publication_id: str) -> None:
    """Let the time pass until the sweeper looks at the publication."""
    change(stack, publication_id, sweep_at=time.time() - 1)


def sweep(stack: Stack) -> None:
    """Run the deployed sweeper of publications now."""
    name = stack.functions["SweepPublicationsFunction"]
    answer = stack.client("lambda").invoke(FunctionName=name, Payload=b"{}")
    assert "FunctionError" not in answer, answer["Payload"].read()


def execution_arn(stack: Stack, name: str) -> str:
    return f"{stack.state_machines['publishing'].replace(':stateMachine:', ':execution:')}:{name}"


def everything_published(studio: Studio) -> None:
    """Stock found, imported, given up halfway; posts made, lost, listed, taken back, and left to the sweeper."""
    stack, once = studio.stack, {"idempotency-key": uuid4().hex}
    endless = studio.http.get("/stock", params={"query": f"[sim output=too-big] {uuid4().hex}"}).json()["items"][0]
    assert studio.http.post(f"/stock/{endless['id']}/import", json={}).status_code == 503
    found = studio.http.get("/stock", params={"query": uuid4().hex}).json()["items"][0]
    asset = studio.http.post(f"/stock/{found['id']}/import", json={}, headers=once).json()
    assert web.get(asset["url"]).status_code == 200
    assert studio.http.get("/channels").status_code == 200
    own = in_library(studio, "alpha PNG")
    out = [published(studio, own, request(text)) for text in ("out", "[sim create=drop-after-accept]")]
    later = request("later", mode="schedule", publish_at=iso(time.time() + 3600))
    taken, stopped, canceled = waiting = [published(studio, asset, later) for _ in range(3)]
    for made in waiting:
        ended(studio, made, {"scheduled"})
        make_due(stack, made["id"])
    assert studio.http.post(f"/publications/{taken['id']}/cancel").json()["status"] == "canceled"
    stack.client("stepfunctions").stop_execution(executionArn=execution_arn(stack, stopped["id"]))
    # The caller has asked for it, and Postiz did not answer then.
    change(stack, canceled["id"], cancel_requested_at=time.time())
    eventually(
        lambda: sweep(stack) or row(stack, stopped["id"])["executions"],
        timeout=PATIENCE_S,
        what="new execution of the publication that was left alone",
    )
    assert ended(studio, canceled)["status"] == "canceled"
    assert studio.http.post(f"/publications/{stopped['id']}/cancel").json()["status"] == "canceled"
    assert {ended(studio, made)["status"] for made in out} == {"published"}
    assert len(studio.http.get("/publications").json()["items"]) == 5
