"""Least privilege, from both sides: no function does what its role does not say (the stack enforces IAM), and no role
says what its function does not do.

A representative run uses everything once; the emulator has recorded each function's AWS calls.
"""

import json
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import partial
from typing import Any
from uuid import uuid4

import httpx
import pytest

from local.cloud import Stack
from tests import corpus
from tests.e2e.helpers import (
    S3_ACTIONS,
    Call,
    Provider,
    Recording,
    at_once,
    eventually,
    only_prediction,
)
from tests.e2e.listening import listened_to
from tests.e2e.publishing import everything_published
from tests.e2e.uploading import QUOTA, decided, has_stored, in_library, invoke, make_due, promised, sent, web
from tests.support import Json, Studio, sweep


@pytest.fixture(scope="module")
def used(stack: Stack, recording: Recording) -> dict[str, set[Call]]:
    """Every call that each function has made, by function, after a run in which all of them have had their say."""
    studio = Studio(stack, f"iam-{uuid4().hex[:12]}")
    at_once([partial(scene, studio) for scene in SCENES])
    sweep(stack)
    studio.check_invariants()
    studio.close()
    allowed = {name: rights(stack, recording.roles[name]) for name in stack.functions}
    return {
        name: recording.calls(name, {event for action, _ in allowed[name] for event in recorded_as(action)})
        for name in stack.functions
    }


def rights(stack: Stack, role_arn: str) -> set[tuple[str, str]]:
    """(action, resource) of every Allow of the role's own policies."""
    iam = stack.client("iam")
    role = role_arn.rpartition("/")[2]
    found: set[tuple[str, str]] = set()
    for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        for statement in iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]["Statement"]:
            assert statement["Effect"] == "Allow"
            assert statement.keys() <= {"Effect", "Action", "Resource", "Sid"}
            found |= {
                (action, resource) for action in _list(statement["Action"]) for resource in _list(statement["Resource"])
            }
    return found


def _list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def recorded_as(action: str) -> set[str]:
    """The names of the events that show the use of an action."""
    service, _, name = action.partition(":")
    if service == "dynamodb":
        return {name, "TransactWriteItems"}
    if service == "s3":
        return {event for event, meant in S3_ACTIONS.items() if action in meant}
    return {name}


def covers(right: tuple[str, str], call: Call) -> bool:
    meant = S3_ACTIONS.get(call.action.removeprefix("s3:"), {call.action})
    return right[0] in meant and fnmatchcase(call.resource, right[1])


# The run: each scene is an account's story


def refused_by_the_provider(studio: Studio) -> None:
    for kind in ("images", "portraits"):
        studio.create("[sim colour=blue]", kind=kind)


def repeated_with_its_files(studio: Studio) -> None:
    for kind in ("images", "portraits"):
        job = studio.create("a lighthouse", kind=kind, key=f"repeat-{kind}")
        studio.wait(job["id"])
        follow(studio.create("a lighthouse", kind=kind, key=f"repeat-{kind}"))


def read(studio: Studio) -> None:
    job = studio.run("a herring")
    follow(studio.job(job["id"]))
    for path in ("/jobs", "/credits", "/credits/entries", "/models", "/openapi.json", "/health", "/nothing"):
        studio.http.get(path)
    asset = studio.http.get(f"/assets/{job['assets'][0]['id']}").json()
    assert httpx.get(asset["url"], trust_env=False).status_code == 200
    assert studio.http.get(f"/assets/{asset['id']}/content", follow_redirects=True).status_code == 200
    answer = studio.http.post(f"/jobs/{job['id']}/cancel")
    follow(answer.json())


def audited(studio: Studio) -> None:
    admin = {"authorization": f"Bearer {studio.stack.tokens['admin']}"}
    for query in ({"resource": f"credits/{studio.account}"}, {"account": studio.account}, {}):

        def told(query: dict[str, str] = query) -> bool:
            return bool(studio.http.get("/audit", params=query, headers=admin).json()["items"])

        eventually(told, timeout=30, what="an entry of the audit")


def follow(job: Json) -> None:
    """Fetch the files of an answered job: the right to read them is the role's of the function that has answered."""
    assert job["assets"]
    for asset in job["assets"]:
        assert httpx.get(asset["url"], trust_env=False).status_code == 200


def canceled(studio: Studio) -> None:
    running = studio.create("[sim outcome=never]")
    studio.http.post(f"/jobs/{running['id']}/cancel")
    assert studio.wait(running["id"])["status"] == "canceled"


def canceled_in_the_queue(studio: Studio) -> None:
    """Until one was queued at that very moment: between attempts it is, during them it is not."""
    for _ in range(10):
        job = studio.create("[sim create=429]")
        if studio.http.post(f"/jobs/{job['id']}/cancel").json()["status"] == "canceled":
            return
        studio.wait(job["id"])
    raise AssertionError("no job was queued when it was canceled")


def unheard(studio: Studio) -> None:
    for prompt in (
        "[sim webhook=lost]",
        "[sim outcome=failed]",
        "[sim create=drop-after-accept]",
        "[sim webhook=forged]",
    ):
        studio.create(prompt)
    studio.run("[sim create=500 times=1]", kind="portraits")


def too_big(studio: Studio) -> None:
    """More than one part of a multipart upload, which is given up."""
    assert studio.run("[sim output=too-big]")["status"] == "failed"


def late(studio: Studio) -> None:
    """The provider changes its mind: what it has told as failed was a success after all."""
    failed, other = studio.run("[sim outcome=failed]"), studio.run("[sim]")
    provider = Provider(studio.stack)
    result = provider.prediction(only_prediction(studio, other["id"])["id"])
    body = json.dumps({**result, "id": only_prediction(studio, failed["id"])["id"]}).encode()
    assert provider.deliver(failed["id"], body, provider.signed(body)).status_code == 200
    provider.close()
    kept = eventually(lambda: studio.job(failed["id"])["assets"], timeout=30, what="late asset")
    assert kept[0]["sha256"] == other["assets"][0]["sha256"]
    assert studio.job(failed["id"])["status"] == "failed"


def uploaded_and_forgotten(studio: Studio) -> None:
    """Files that come, are deleted and taken back, for which there is no room, and that never come."""
    stack = studio.stack
    asset = in_library(studio, "alpha PNG")
    follow({"assets": [asset]})
    change = {"name": "logo", "tags": ["brand"]}
    assert studio.http.patch(f"/assets/{asset['id']}", json=change).status_code == 200
    for _ in range(2):
        assert studio.http.delete(f"/assets/{asset['id']}").status_code == 204
        assert studio.http.post(f"/assets/{asset['id']}/restore").status_code == 200
    for path in ("/assets", "/storage", f"/assets/{asset['id']}"):
        assert studio.http.get(path).status_code == 200
    assert studio.http.get(f"/assets/{asset['id']}/content", follow_redirects=True).status_code == 200
    large, small, late = (promised(studio, "video/mp4", size) for size in (60_000_000, 5, 50_000_001))
    assert web.put(large["parts"][3]["url"], content=bytes(large["parts"][3]["bytes"])).status_code == 200
    assert studio.http.post(f"/uploads/{large['id']}/complete").status_code == 409
    for upload in (large, small):
        assert studio.http.delete(f"/uploads/{upload['id']}").status_code == 204
    unused, deleted = (in_library(studio, "alpha PNG") for _ in range(2))
    hinted(stack, unused)
    assert studio.http.delete(f"/assets/{deleted['id']}").status_code == 204
    for item in (late, unused, deleted):
        make_due(stack, item["id"])
    assert invoke(stack, "ExpireMediaFunction", {})["failed"] == 0
    data = corpus.make("alpha PNG")
    upload = promised(studio, "image/png", len(data))
    has_stored(studio, QUOTA)
    assert sent(upload, data).status_code == 204
    assert decided(studio, upload["id"])["error"]["code"] == "quota_exceeded"


def hinted(stack: Stack, asset: Json) -> None:
    """A save that was given up long ago has left a hint that a project uses the asset."""
    hint = {"list_id": {"S": f"uses#{asset['id']}"}, "entry": {"S": "pr_nobody"}, "at": {"N": "0"}}
    stack.client("dynamodb").put_item(TableName=stack.tables["project_lists"], Item=hint)


def edited(studio: Studio) -> None:
    """Projects too large for an item, made, imported, read, changed by everybody who can, and deleted."""
    asset = in_library(studio, "alpha PNG")
    hinted(studio.stack, asset)
    clip = {"id": "a", "asset": asset["id"], "duration": 1}
    texts = [{"text": "x" * 5000, "start": number, "duration": 1} for number in range(61)]
    shown = {
        "title": "x",
        "timeline": {"tracks": [{"type": "video", "clips": [clip]}, {"type": "text", "clips": texts}]},
    }
    empty = {"title": "x", "timeline": {"tracks": [{"type": "video"}]}}
    append = {"operations": [{"type": "append", "track": 0, "clip": clip}]}
    once, match = {"idempotency-key": uuid4().hex}, {"if-match": "*"}
    path = f"/projects/{studio.http.post('/projects', json=shown, headers=once).json()['id']}"
    assert studio.http.delete(f"/assets/{asset['id']}").status_code == 409
    answers = [
        studio.http.get("/projects"),
        studio.http.get(path),
        studio.http.put(
            path,
            json={**shown, "timeline": {"tracks": [{"type": "video"}, {"type": "text", "clips": texts}]}},
            headers=match,
        ),
        studio.http.post(f"{path}/operations", json=append, headers=once),
        studio.http.put(path, json=empty, headers=match),
        studio.http.post(f"{path}/versions/1/restore", headers=once),
        studio.http.get(f"{path}/versions"),
        studio.http.get(f"{path}/versions/1"),
        studio.http.post(f"{path}/duplicate", json={}, headers=once),
        studio.http.delete(path, headers=match),
        *(studio.http.post("/projects/import", json=as_shotstack(asset), headers=once) for _ in range(2)),
    ]
    assert all(answer.is_success for answer in answers), [answer.text[:300] for answer in answers]


def as_shotstack(asset: Json) -> Json:
    """The same project in Shotstack's words."""
    source = "https://example.com/logo.png"
    texts = [{"asset": {"type": "title", "text": "x" * 5000}, "start": n, "length": 1} for n in range(61)]
    picture = {"asset": {"type": "image", "src": source}, "start": 0, "length": 1}
    content = {"timeline": {"tracks": [{"clips": texts}, {"clips": [picture]}]}, "output": {"format": "mp4"}}
    return {"format": "shotstack", "content": content, "media": {source: asset["id"]}}


def left_alone(studio: Studio) -> None:
    """A job whose execution was stopped: the sweeper asks for it and starts another."""
    job = studio.create("[sim delay=1 webhook=lost]")
    arn = studio.stack.state_machines["generation"].replace(":stateMachine:", ":execution:")
    studio.stack.client("stepfunctions").stop_execution(executionArn=f"{arn}:{job['id']}")

    def over() -> bool:
        sweep(studio.stack)
        return studio.job(job["id"])["status"] == "succeeded"

    eventually(over, timeout=60, what="end of the job that was left alone")


def at_the_door(studio: Studio) -> None:
    """Keys made, listed, replaced and ended; tokens and accounts revoked; a plan."""
    once = {"idempotency-key": uuid4().hex}
    made = studio.http.post("/api-keys", json={"name": "a key", "scopes": ["studio"]}, headers=once).json()
    assert studio.http.get("/credits", headers={"authorization": f"Bearer {made['key']}"}).status_code == 200
    rotated = studio.http.post(f"/api-keys/{made['id']}/rotate", json={}).json()
    assert len(studio.http.get("/api-keys").json()["items"]) == 2
    assert studio.http.delete(f"/api-keys/{rotated['id']}").status_code == 204
    token = {"token": studio.stack.token(studio.account)}
    assert studio.http.post("/auth/revoke", json=token, headers=once).status_code == 200
    admin = {"authorization": f"Bearer {studio.stack.tokens['admin']}"}
    other = f"/admin/accounts/{studio.account}-other"
    assert studio.http.post(f"{other}/revoke", headers={**admin, **once}).status_code == 200
    assert studio.http.put(f"{other}/plan", json={"plan": "scale"}, headers=admin).status_code == 200


def _in_an_account_of_its_own(stage: Callable[[Studio], None]) -> Callable[[Studio], None]:
    def play(model: Studio) -> None:
        studio = Studio(model.stack, f"{model.account}-{stage.__name__}")
        studio.grant(200)
        stage(studio)
        for job in studio.http.get("/jobs", params={"limit": 100}).json()["items"]:
            studio.wait(job["id"])
        studio.check_invariants()
        studio.close()

    return play


SCENES = [
    _in_an_account_of_its_own(stage)
    for stage in (
        refused_by_the_provider,
        repeated_with_its_files,
        read,
        audited,
        canceled,
        canceled_in_the_queue,
        at_the_door,
        unheard,
        too_big,
        late,
        uploaded_and_forgotten,
        edited,
        listened_to,
        left_alone,
        everything_published,
    )
]


# What it shows


def test_no_function_has_a_right_that_it_does_not_use(
    stack: Stack, recording: Recording, used: dict[str, set[Call]]
) -> None:
    unused = {
        (name, *right)
        for name in stack.functions.keys() - ELSEWHERE - CALLBACKS - REALTIME
        for right in rights(stack, recording.roles[name])
        if not any(covers(right, call) for call in used[name])
        and not _is_rare(stack, right)
        and (name, right[0]) not in ELSEWHERE_USED
    }

    assert unused == set()


# These are run by test_callbacks.py, which looks at their rights as well.
CALLBACKS = {
    "CallbackSecretFunction",
    "CallbacksFunction",
    "DeadCallbacksFunction",
    "DeliverCallbackFunction",
    "SweepCallbacksFunction",
}
# The same of test_realtime.py.
REALTIME = {
    "RealtimeTicketsFunction",
    "ConnectFunction",
    "DisconnectFunction",
    "MessageFunction",
    "AnnounceFunction",
}
# These are run by test_every_kind.py, and tests/unit/test_template.py holds their rights against what they are for.
ELSEWHERE = {
    "CreateVideoFunction",
    "CreateCharacterVideoFunction",
    "CreateSpeechFunction",
    "CreateMusicFunction",
    "CreateTranscriptionFunction",
    "CreateStemsFunction",
    "CreateAnalysisFunction",
    "CreateBatchFunction",
    "GetBatchFunction",
    "GenerateFunction",
    "RecoverJobsFunction",
    # Its rights to split a batch are those of CreateBatch.
    "SweepJobsFunction",
    # tests/integration/test_reconcile.py and test_purge.py run these.
    "ReconcileLedgerFunction",
    "PurgeMediaFunction",
}
ELSEWHERE_USED = {
    ("ReceiveFunction", "dynamodb:GetItem"),  # KIE's webhooks are no proof: the job's record is read again.
    ("SubmitFunction", "s3:GetObject"),  # A second attempt signs the addresses of its inputs anew.
}
OTHER_PROVIDERS = ("kie", "fal", "openai", "elevenlabs", "gemini")


def _is_rare(stack: Stack, right: tuple[str, str]) -> bool:
    """Rights that the scenes here have no occasion for: other providers' keys (one provider stands for all), a circuit
    that changes, a budget that is read (there is none locally), a transcript that Store asks for again, a file that is
    gone."""
    action, resource = right
    return (
        any(resource.endswith(f"/{provider}-*") for provider in OTHER_PROVIDERS)
        or (action in ("dynamodb:PutItem", "dynamodb:UpdateItem") and stack.tables["circuits"] in resource)
        or (action == "dynamodb:Query" and stack.tables["ledger"] in resource)
        or (action == "secretsmanager:GetSecretValue" and resource.endswith("/replicate-*"))
        or action in ("s3:DeleteObject", "s3:ListBucket")
        # Lambda itself puts there what a function has failed of.
        or (action == "sqs:SendMessage" and "DeadLetters" in resource)
        # A large document whose save came too late by milliseconds is looked for before it is deleted.
        or (action == "dynamodb:GetItem" and stack.tables["project_lists"] in resource)
    )


def test_no_function_does_what_its_role_does_not_say(
    stack: Stack, recording: Recording, used: dict[str, set[Call]]
) -> None:
    outside = {
        (name, call)
        for name in stack.functions
        for call in used[name]
        if not any(covers(right, call) for right in rights(stack, recording.roles[name]))
    }

    assert outside == set()


def test_only_what_has_no_resource_level_has_a_star(stack: Stack, recording: Recording) -> None:
    starred = {
        action for role in recording.roles.values() for action, resource in rights(stack, role) if resource == "*"
    }

    # AWS Service Authorization Reference: task tokens are no resource.
    assert starred == {"states:SendTaskSuccess"}


def test_no_action_is_a_pattern(stack: Stack, recording: Recording) -> None:
    assert not [
        action
        for role in recording.roles.values()
        for action, _ in rights(stack, role)
        if "*" in action or "?" in action
    ]


# What SAM attaches to whoever takes from a stream or a queue.
TO_BE_WOKEN = {"dynamodb": "AWSLambdaDynamoDBExecutionRole", "sqs": "AWSLambdaSQSQueueExecutionRole"}


def test_every_function_has_a_role_of_its_own_with_nothing_attached_but_logs_traces_and_what_wakes_it(
    stack: Stack, recording: Recording
) -> None:
    assert len(set(recording.roles.values())) == len(stack.functions)
    iam = stack.client("iam")
    sources = stack.client("lambda").list_event_source_mappings()["EventSourceMappings"]
    for name, role in recording.roles.items():
        own = [each for each in sources if each["FunctionArn"].rpartition(":")[2] == stack.functions[name]]
        woken = {TO_BE_WOKEN[each["EventSourceArn"].split(":")[2]] for each in own}
        attached = iam.list_attached_role_policies(RoleName=role.rpartition("/")[2])["AttachedPolicies"]
        assert {policy["PolicyName"] for policy in attached} == {
            "AWSLambdaBasicExecutionRole",
            "AWSXrayWriteOnlyAccess",
            *woken,
        }


@pytest.mark.parametrize(("name", "number"), [("generation", 8), ("publishing", 3)])
def test_a_workflow_may_do_what_its_definition_does(stack: Stack, name: str, number: int) -> None:
    """The emulator does not enforce a state machine's role, so its policy is held against its definition."""
    machine = stack.client("stepfunctions").describe_state_machine(stateMachineArn=stack.state_machines[name])
    tasks = [state for state in json.loads(machine["definition"])["States"].values() if state["Type"] == "Task"]
    needed = {
        ("dynamodb:UpdateItem", f"table/{state['Parameters']['TableName']}")
        if "dynamodb:updateItem" in state["Resource"]
        else ("lambda:InvokeFunction", state["Resource"])
        for state in tasks
    }

    allowed = rights(stack, machine["roleArn"])

    assert len(needed) == number
    assert {
        (action, resource.rpartition(":")[2] if "dynamodb" in action else resource) for action, resource in allowed
    } == needed
