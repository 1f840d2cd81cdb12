"""The simulated KIE.ai: envelopes, records, callbacks and their proof, as in PROVIDERS.md, 2."""

import base64
import hashlib
import hmac
import json
import re
import time
from typing import Any

import httpx
import pytest

from local.simulator.kie_tasks import sign
from tests.unit.test_simulator_common import (
    KIE_KEY,
    Provider,
    Receiver,
    eventually,
    inspected,
    origin,
    probed,
    provider,
    receiver,
    receivers,
    web,
)

__all__ = ["origin", "receiver", "receivers"]

CREATE = "/kie/api/v1/jobs/createTask"
RECORD = {
    CREATE: "/kie/api/v1/jobs/recordInfo",
    "/kie/api/v1/veo/generate": "/kie/api/v1/veo/record-info",
    "/kie/api/v1/generate": "/kie/api/v1/generate/record-info",
}
VEO, SUNO = list(RECORD)[1:]


@pytest.fixture
def kie(origin: str) -> Provider:
    return provider(origin, "kie")


def market(prompt: str, model: str = "nano-banana-2", to: Receiver | None = None, **given: Any) -> dict[str, Any]:
    hook = {"callBackUrl": to.url} if to else {}
    return {"model": model, "input": {"prompt": prompt, **given}, **hook}


def suno(prompt: str, to: Receiver, **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "customMode": False, "instrumental": True, "model": "V4_5", "callBackUrl": to.url, **more}


def created(caller: Provider, path: str, body: dict[str, Any]) -> str:
    answer = caller.post(path, body)
    assert (answer.status_code, answer.json()["code"], answer.json()["msg"]) == (200, 200, "success"), answer.text
    task_id: str = answer.json()["data"]["taskId"]
    return task_id


def record(caller: Provider, path: str, task_id: str) -> dict[str, Any]:
    found: dict[str, Any] = caller.get(RECORD[path], params={"taskId": task_id}).json()
    return found


def ended(caller: Provider, path: str, task_id: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found = record(caller, path, task_id)
        data = found["data"]
        over = (
            data.get("state") in ("success", "fail")
            or data.get("successFlag")
            or data.get("status", "")[-4:]
            in (
                "CESS",
                "TION",
                "ILED",
                "RROR",
            )
        )
        return found if over and data.get("status") not in ("TEXT_SUCCESS", "FIRST_SUCCESS") else None

    return eventually(look)


def test_the_signature_is_the_vector() -> None:
    assert sign(KIE_KEY, "task_12345678", 1700000000) == "MjPrFrIuFK6IU/u+vx0iuhuuDbdTnXM8RFrEvhG1e0c="


def test_a_market_task_goes_its_way(kie: Provider) -> None:
    task_id = created(kie, CREATE, market("a boat [sim delay=0.4]", "kling-3.0/video", duration="3", sound=True))
    states = [record(kie, CREATE, task_id)["data"]["state"]]
    eventually(lambda: record(kie, CREATE, task_id)["data"]["state"] == "generating")
    running = record(kie, CREATE, task_id)["data"]
    last = ended(kie, CREATE, task_id)

    assert re.fullmatch(r"task_kling-3_\d+", task_id)
    assert states[0] in ("waiting", "queuing")
    assert running["resultJson"] == ""
    assert 0 < running["progress"] < 100
    data = last["data"]
    assert (last["code"], data["state"], data["progress"], data["failCode"]) == (200, "success", 100, None)
    assert json.loads(data["param"])["input"]["duration"] == "3"
    assert data["creditsConsumed"] == 120
    assert data["completeTime"] - data["createTime"] == pytest.approx(data["costTime"], abs=2)
    film = web.get(json.loads(data["resultJson"])["resultUrls"][0]).content
    seconds, report = probed(film)
    assert seconds == pytest.approx(3, abs=0.15)
    assert "Audio:" in report


def test_a_market_callback_is_the_record_and_proves_the_task(kie: Provider, receiver: Receiver) -> None:
    task_id = created(kie, CREATE, market("a boat [sim delay=0.05 cost=33]", to=receiver))
    eventually(lambda: receiver.seen)

    headers, body = receiver.seen[0]
    told = json.loads(body)["data"]
    assert told | record(kie, CREATE, task_id)["data"] == told
    assert told["consumeCredits"] == told["creditsConsumed"] == 33
    stamp = headers["x-webhook-timestamp"]
    expected = hmac.digest(KIE_KEY.encode(), f"{task_id}.{stamp}".encode(), hashlib.sha256)
    assert headers["x-webhook-signature"] == base64.b64encode(expected).decode()
    assert abs(int(stamp) - time.time()) < 5


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [("outcome=failed", "500", "Internal server error"), ("outcome=refused", "400", "flagged")],
)
def test_a_market_failure(kie: Provider, receiver: Receiver, words: str, code: str, message: str) -> None:
    last = ended(kie, CREATE, created(kie, CREATE, market(f"[sim delay=0.05 {words}]", to=receiver)))
    eventually(lambda: receiver.seen)

    assert (last["code"], last["msg"]) == (501, "Playground task failed.")
    assert (last["data"]["state"], last["data"]["failCode"], last["data"]["resultJson"]) == ("fail", code, None)
    assert message in last["data"]["failMsg"]
    assert receiver.bodies[0] == last


def test_an_input_that_cannot_be_had(kie: Provider) -> None:
    body = market("[sim delay=0]", image_input=["http://127.0.0.1:9/a.png"])

    last = ended(kie, CREATE, created(kie, CREATE, body))["data"]

    assert (last["state"], last["failCode"]) == ("fail", "422")
    assert "image_input" in last["failMsg"]


@pytest.mark.parametrize(("word", "code"), [("402", 402), ("429", 429), ("455", 455), ("500", 500)])
def test_errors_come_inside_http_200(kie: Provider, origin: str, receiver: Receiver, word: str, code: int) -> None:
    body = market(f"[sim create={word} times=1 delay=0]", to=receiver)

    answers = [kie.post(CREATE, body) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert [answer.json()["code"] for answer in answers] == [code, 200]
    assert inspected(origin, receiver.url)["prediction_count"] == 1


def test_other_creates_that_go_wrong(kie: Provider, origin: str, receiver: Receiver) -> None:
    page = kie.post(CREATE, market("[sim create=502html]"))
    with pytest.raises(httpx.TransportError):
        kie.post(CREATE, market("[sim create=drop-after-accept delay=0]", to=receiver))
    with pytest.raises(httpx.ReadTimeout):
        kie.post(CREATE, market("[sim create=hang]"), timeout=0.2)

    assert (page.status_code, page.text[:6]) == (502, "<html>")
    eventually(lambda: receiver.seen)
    assert inspected(origin, receiver.url)["prediction_count"] == 1


@pytest.mark.parametrize(
    ("words", "result"),
    [("empty", ""), ("notjson", "<html><body>upstream error</body></html>"), ("nourls", '{"resultUrls": []}')],
)
def test_a_result_of_another_shape(kie: Provider, words: str, result: str) -> None:
    last = ended(kie, CREATE, created(kie, CREATE, market(f"[sim delay=0 output={words}]")))

    assert (last["data"]["state"], last["data"]["resultJson"]) == ("success", result)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"input": {}}, "model"),
        ({"model": "nano-banana-2"}, "input"),
        (market("x", "sora-2-text-to-video"), "not supported"),
        (market("[sim create=busy]"), "create=busy"),
        (market("[sim cancel=ignored]"), "cancel=ignored"),
        (market("x") | {"callBackUrl": "http://example.com/"}, "callBackUrl"),
    ],
)
def test_a_bad_create_is_422_in_the_envelope(kie: Provider, body: dict[str, Any], message: str) -> None:
    answer = kie.post(CREATE, body)

    assert (answer.status_code, answer.json()["code"]) == (200, 422)
    assert message in answer.json()["msg"]


def test_a_tampered_callback_still_proves_the_task(kie: Provider, receiver: Receiver) -> None:
    task_id = created(kie, CREATE, market("[sim delay=0 webhook=tampered]", to=receiver))
    eventually(lambda: receiver.seen)

    headers, body = receiver.seen[0]
    assert headers["x-webhook-signature"] == sign(KIE_KEY, task_id, int(headers["x-webhook-timestamp"]))
    assert b"attacker.example" in body
    assert "attacker" not in json.dumps(record(kie, CREATE, task_id))


@pytest.mark.parametrize("fault", ["unsigned", "forged", "stale", "twice", "big", "late"])
def test_other_callback_faults(kie: Provider, receiver: Receiver, fault: str) -> None:
    task_id = created(kie, CREATE, market(f"[sim delay=0 webhook={fault}]", to=receiver))
    eventually(lambda: len(receiver.seen) >= (2 if fault == "twice" else 1))

    headers, body = receiver.seen[0]
    stamp = headers.get("x-webhook-timestamp", "0")
    good = headers.get("x-webhook-signature") == sign(KIE_KEY, task_id, int(stamp))
    assert good == (fault not in ("unsigned", "forged"))
    assert (abs(int(stamp) - time.time()) > 500) == (fault in ("unsigned", "stale"))
    assert (len(body) == 5_000_000) == (fault == "big")


# Veo


def test_veo_says_response_in_the_record_and_info_in_the_callback(kie: Provider, receiver: Receiver) -> None:
    body = {"prompt": "a boat [sim delay=0.3 seconds=2]", "model": "veo3_fast", "callBackUrl": receiver.url}
    task_id = created(kie, VEO, body)
    running = record(kie, VEO, task_id)["data"]
    last = ended(kie, VEO, task_id)["data"]
    eventually(lambda: receiver.seen)

    assert re.fullmatch(r"veo_task_\w+", task_id)
    assert (running["successFlag"], running["response"], running["completeTime"]) == (0, None, None)
    assert (last["successFlag"], last["errorCode"], last["errorMessage"]) == (1, None, "")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", last["completeTime"])
    assert last["response"]["taskId"] == task_id
    told = receiver.bodies[0]
    assert told["msg"] == "Veo3.1 video generated successfully."
    assert told["data"]["info"]["resultUrls"] == last["response"]["resultUrls"]
    assert json.loads(told["data"]["promptJson"])["model"] == "veo3_fast"
    assert probed(web.get(last["response"]["resultUrls"][0]).content)[0] == pytest.approx(2, abs=0.15)


@pytest.mark.parametrize(("word", "flag", "code"), [("failed", 2, 500), ("refused", 2, 400), ("aborted", 3, 500)])
def test_veo_failures(kie: Provider, receiver: Receiver, word: str, flag: int, code: int) -> None:
    body = {"prompt": f"[sim outcome={word} delay=0]", "model": "veo3", "callBackUrl": receiver.url}

    task_id = created(kie, VEO, body)
    last = ended(kie, VEO, task_id)["data"]
    eventually(lambda: receiver.seen)

    assert (last["successFlag"], last["errorCode"]) == (flag, code)
    assert (receiver.bodies[0]["code"], receiver.bodies[0]["data"]) == (code, {"taskId": task_id})


def test_veo_urls_as_a_string(kie: Provider) -> None:
    last = ended(kie, VEO, created(kie, VEO, {"prompt": "[sim output=string-urls delay=0]"}))["data"]

    assert isinstance(last["response"]["resultUrls"], str)
    assert json.loads(last["response"]["resultUrls"])[0].startswith("http")


# Suno


def test_suno_calls_back_three_times(kie: Provider, receiver: Receiver) -> None:
    task_id = created(kie, SUNO, suno("calm piano [sim delay=0.6 seconds=3]", receiver))
    statuses: list[str] = []
    while not statuses or statuses[-1] != "SUCCESS":
        status = record(kie, SUNO, task_id)["data"]["status"]
        statuses += [status] if status not in statuses[-1:] else []
        time.sleep(0.01)
    eventually(lambda: len(receiver.seen) == 3)

    assert statuses == ["PENDING", "TEXT_SUCCESS", "FIRST_SUCCESS", "SUCCESS"]
    assert [body["data"]["callbackType"] for body in receiver.bodies] == ["text", "first", "complete"]
    assert all(body["data"]["task_id"] == task_id for body in receiver.bodies)
    heard = [[bool(track["audio_url"]) for track in body["data"]["data"]] for body in receiver.bodies]
    assert heard == [[False, False], [True, False], [True, True]]
    tracks = record(kie, SUNO, task_id)["data"]["response"]["sunoData"]
    assert [track["audioUrl"] for track in tracks] == [
        track["audio_url"] for track in receiver.bodies[-1]["data"]["data"]
    ]
    for track in tracks:
        assert probed(web.get(track["audioUrl"]).content)[0] == pytest.approx(track["duration"], abs=0.1)
        assert web.get(track["imageUrl"]).headers["content-type"] == "image/jpeg"
    headers = receiver.seen[0][0]
    assert headers["x-webhook-signature"] == sign(KIE_KEY, task_id, int(headers["x-webhook-timestamp"]))


def test_suno_callbacks_come_in_order_also_when_there_is_no_time(kie: Provider, receiver: Receiver) -> None:
    created(kie, SUNO, suno("[sim delay=0 seconds=1]", receiver))

    eventually(lambda: len(receiver.seen) == 3)
    assert [body["data"]["callbackType"] for body in receiver.bodies] == ["text", "first", "complete"]


def test_suno_reordered(kie: Provider, receiver: Receiver) -> None:
    created(kie, SUNO, suno("[sim delay=0.1 webhook=reordered seconds=1]", receiver))

    eventually(lambda: len(receiver.seen) == 3)
    assert receiver.bodies[0]["data"]["callbackType"] == "complete"


def test_a_callback_exception_has_its_tracks_and_no_callback(kie: Provider, receiver: Receiver) -> None:
    task_id = created(kie, SUNO, suno("[sim delay=0 seconds=1 outcome=callback-exception]", receiver))

    last = ended(kie, SUNO, task_id)["data"]

    assert last["status"] == "CALLBACK_EXCEPTION"
    assert [track["audioUrl"][:4] for track in last["response"]["sunoData"]] == ["http", "http"]
    assert receiver.seen == []


@pytest.mark.parametrize(
    ("word", "status"),
    [("failed", "GENERATE_AUDIO_FAILED"), ("refused", "SENSITIVE_WORD_ERROR"), ("aborted", "CREATE_TASK_FAILED")],
)
def test_suno_failures(kie: Provider, receiver: Receiver, word: str, status: str) -> None:
    last = ended(kie, SUNO, created(kie, SUNO, suno(f"[sim delay=0 outcome={word}]", receiver)))["data"]
    eventually(lambda: "error" in [body["data"]["callbackType"] for body in receiver.bodies])

    assert last["status"] == status
    assert last["errorMessage"]
    assert receiver.bodies[-1]["code"] in (400, 501)


def test_suno_without_urls(kie: Provider, receiver: Receiver) -> None:
    last = ended(kie, SUNO, created(kie, SUNO, suno("[sim delay=0 output=nourls]", receiver)))["data"]

    assert [track["audioUrl"] for track in last["response"]["sunoData"]] == ["", ""]


@pytest.mark.parametrize(
    ("change", "message"),
    [({"callBackUrl": None}, "Please enter callBackUrl"), ({"prompt": "x" * 501}, "500"), ({"prompt": ""}, "prompt")],
)
def test_a_bad_suno_request(kie: Provider, receiver: Receiver, change: dict[str, Any], message: str) -> None:
    answer = kie.post(SUNO, suno("x", receiver) | change).json()

    assert answer["code"] == 422
    assert message in answer["msg"]


# Others


def test_the_credit_and_the_download_link(kie: Provider, origin: str) -> None:
    ours = kie.post("/kie/api/v1/common/download-url", {"url": f"{origin}/delivery/x.png"}).json()
    foreign = kie.post("/kie/api/v1/common/download-url", {"url": "https://example.com/x.png"}).json()

    assert kie.get("/kie/api/v1/chat/credit").json() == {"code": 200, "msg": "success", "data": 1234.5}
    assert ours["data"].startswith(f"{origin}/delivery/x.png")
    assert foreign["code"] == 422


def test_a_record_of_nothing_and_of_another_kind(kie: Provider) -> None:
    task_id = created(kie, CREATE, market("x"))

    assert record(kie, CREATE, "nothing")["code"] == 404
    assert record(kie, VEO, task_id)["code"] == 404


def test_cloudflare_wants_a_user_agent(kie: Provider) -> None:
    answer = kie.get("/kie/api/v1/chat/credit", headers={"user-agent": ""})

    assert (answer.status_code, answer.text) == (403, "error code: 1010")
