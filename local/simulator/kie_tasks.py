"""The three kinds of task at KIE: what their records and callbacks say as the task goes on.

Shapes by docs.kie.ai, differences between them included: see PROVIDERS.md, 2.
"""

import base64
import hashlib
import hmac
import json
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from local.simulator.delivery import Signer, Webhook
from local.simulator.jobs import LONGEST_STARTING, STARTING_SHARE, Event, Job

type Envelope = dict[str, Any]

NOT_JSON = "<html><body>upstream error</body></html>"
# What a failure is called, by its kind: code of the failure, message.
FAILURES = {
    "failed": (500, "Internal server error"),
    "refused": (400, "Your content was flagged as violating content policies."),
    "input": (422, "File fetch failed"),
}
CREDITS = {"image": 8.0, "video": 120.0, "character-video": 150.0, "music": 12.0}


def sign(key: str, task_id: str, timestamp: int) -> str:
    """base64(HMAC-SHA256(key, `taskId.timestamp`)): the body is not covered."""
    return base64.b64encode(hmac.digest(key.encode(), f"{task_id}.{timestamp}".encode(), hashlib.sha256)).decode()


def envelope(data: object, code: int = 200, message: str = "success") -> Envelope:
    return {"code": code, "msg": message, "data": data}


@dataclass(kw_only=True, eq=False)
class Task(Job):
    """`request` is the body of the create call; `origin` is where files are."""

    request: dict[str, Any]
    hmac_key: str
    origin: str

    def record(self) -> Envelope:
        raise NotImplementedError

    def callback(self, event: Event) -> Envelope | None:
        """What is sent at `event`; None for nothing."""
        raise NotImplementedError

    def notice(self, event: Event) -> Webhook | None:
        content = self.callback(event) if self.webhook else None
        if content is None or self.webhook is None:
            return None
        body = json.dumps(content).encode()
        return Webhook(
            self.webhook, event, body, _signer(self.hmac_key, self.id), _signer(secrets.token_hex(16), self.id)
        )

    @property
    def urls(self) -> list[str]:
        return [f"{self.origin}/delivery/{output.path}" for output in self.outputs]

    @property
    def reason(self) -> tuple[int, str]:
        """Code and message of what went wrong."""
        kind = self.failure.kind if self.failure else "failed"
        code, message = FAILURES[kind]
        return code, f"{message}: {self.failure.message}" if self.failure and kind == "input" else message

    @property
    def over(self) -> bool:
        return self.ended.is_set()

    @property
    def won(self) -> bool:
        return self.status == "succeeded"


def _signer(key: str, task_id: str) -> Signer:
    def headers(_: bytes, timestamp: int) -> dict[str, str]:
        return {"x-webhook-timestamp": str(timestamp), "x-webhook-signature": sign(key, task_id, timestamp)}

    return headers


@dataclass(kw_only=True, eq=False)
class MarketTask(Task):
    """Times are epoch milliseconds; `param` and `resultJson` are JSON inside JSON."""

    def record(self) -> Envelope:
        code, message = self.reason
        over, lost = self.over, self.over and not self.won
        data = {
            "taskId": self.id,
            "model": self.request["model"],
            "state": self._state(),
            "param": json.dumps(self.request),
            "resultJson": self._result() if self.won else None if lost else "",
            "failCode": str(code) if lost else None,
            "failMsg": message if lost else None,
            "costTime": _ms(self.completed - self.created) if over and self.completed else None,
            "createTime": _ms(self.created),
            "updateTime": _ms(self.completed or self.started or self.created),
            "completeTime": _ms(self.completed) if over and self.completed else None,
            "progress": self.progress,
        }
        if self.won:
            data["creditsConsumed"] = self.credits
        return envelope(data, 501, "Playground task failed.") if lost else envelope(data)

    def callback(self, event: Event) -> Envelope | None:
        if event != "completed":
            return None
        record = self.record()
        if self.won:
            record["data"] |= {"consumeCredits": self.credits, "remainedCredits": 1234.5}
        return record

    @property
    def credits(self) -> float:
        usual = CREDITS.get(self.made.kind, 10.0) if self.made else 0.0
        return usual if self.directives.cost is None else self.directives.cost

    def _state(self) -> str:
        match self.status:
            case "starting":
                starting = min(self.directives.delay * STARTING_SHARE, LONGEST_STARTING)
                return "waiting" if time.time() - self.created < starting / 2 else "queuing"
            case "processing":
                return "generating"
            case "succeeded":
                return "success"
            case _:
                return "fail"

    def _result(self) -> str:
        assert self.made is not None
        match self.directives.output:
            case "empty":
                return ""
            case "notjson":
                return NOT_JSON
            case "nourls":
                return json.dumps({"resultUrls": []})
            case "string-urls":
                return json.dumps({"resultUrls": self.urls[0] if self.urls else ""})
        if self.made.transcript is not None:
            return json.dumps({"resultObject": self.made.transcript.whisper()})
        if self.made.kind == "stems":
            return json.dumps({"resultObject": dict(zip(self.made.files, self.urls, strict=True))})
        return json.dumps({"resultUrls": self.urls})


@dataclass(kw_only=True, eq=False)
class VeoTask(Task):
    """Times are strings without a zone; the record says `response` where the callback says `info`."""

    def record(self) -> Envelope:
        code, message = self.reason
        lost = self.over and not self.won
        data = {
            "taskId": self.id,
            "paramJson": json.dumps(self.request),
            "completeTime": _moment(self.completed) if self.over else None,
            "createTime": _moment(self.created),
            "response": {"taskId": self.id} | self._result()
            if self.won and self.directives.output != "empty"
            else None,
            "successFlag": self._flag(),
            "fallbackFlag": False,
            "errorCode": code if lost else None,
            "errorMessage": message if lost else "",
        }
        return envelope(data | self._credits())

    def callback(self, event: Event) -> Envelope | None:
        if event != "completed":
            return None
        if not self.won:
            code, message = self.reason
            return envelope({"taskId": self.id}, code, message)
        data = {
            "taskId": self.id,
            "promptJson": json.dumps(self.request),
            "info": self._result(),
            "fallbackFlag": False,
        }
        return envelope(data | self._credits(), message="Veo3.1 video generated successfully.")

    def _flag(self) -> int:
        """0 generating, 1 success, 2 failed, 3 failed upstream, which `aborted` stands for."""
        if not self.over:
            return 0
        return {"succeeded": 1, "aborted": 3}.get(self.status, 2)

    def _result(self) -> dict[str, Any]:
        urls: object = self.urls
        match self.directives.output:
            case "string-urls":
                urls = json.dumps(self.urls)
            case "notjson":
                urls = NOT_JSON
            case "nourls" | "empty":
                urls = []
        return {"resultUrls": urls, "originUrls": [], "resolution": "1080p"}

    def _credits(self) -> dict[str, float]:
        """Not in the documented record: only where a directive names a cost."""
        return {} if self.directives.cost is None or not self.won else {"creditsConsumed": self.directives.cost}


@dataclass(kw_only=True, eq=False)
class SunoTask(Task):
    """Two tracks, of which the record speaks in camelCase and the callbacks in snake_case."""

    covers: list[str] = field(default_factory=list)

    def record(self) -> Envelope:
        code, message = self.reason
        lost = self.over and not self.won
        tracks = [_camel(track) for track in self._tracks()]
        shown = bool(tracks) and self.directives.output != "empty"
        data: dict[str, Any] = {
            "taskId": self.id,
            "parentMusicId": "",
            "param": json.dumps(self.request),
            "response": {"taskId": self.id, "sunoData": tracks} if shown else None,
            "status": self._status(),
            "type": "GENERATE",
            "errorCode": code if lost else None,
            "errorMessage": message if lost else None,
        }
        if self.directives.cost is not None and self.won:
            data["creditsConsumed"] = self.directives.cost
        return envelope(data)

    def callback(self, event: Event) -> Envelope | None:
        kind = {"text": "text", "first": "first", "completed": "complete"}.get(event)
        if kind is None:
            return None
        if event == "completed" and not self.won:
            code, message = self.reason
            code = 501 if code == 500 else code
            return envelope({"callbackType": "error", "task_id": self.id, "data": None}, code, message)
        told = {"text": "Text generated successfully.", "first": "First track generated successfully."}
        data = {"callbackType": kind, "task_id": self.id, "data": self._tracks()}
        return envelope(data, message=told.get(kind, "All generated successfully."))

    def _status(self) -> str:
        if not self.over:
            return {"text": "TEXT_SUCCESS", "first": "FIRST_SUCCESS"}.get(self.reached or "", "PENDING")
        if self.won:
            return "CALLBACK_EXCEPTION" if self.directives.outcome == "callback-exception" else "SUCCESS"
        if self.failure is not None and self.failure.kind == "refused":
            return "SENSITIVE_WORD_ERROR"
        return "CREATE_TASK_FAILED" if self.status == "aborted" else "GENERATE_AUDIO_FAILED"

    def _tracks(self) -> list[dict[str, Any]]:
        """As far as they are done: after `text` without audio, after `first` with that of one."""
        if self.made is None or not (self.reached or self.won) or self.directives.output == "empty":
            return []
        done = len(self.urls) if self.won else 1 if self.reached == "first" else 0
        if self.directives.output == "nourls":
            done = 0
        return [
            self._track(number, url, cover, audio=number < done)
            for number, (url, cover) in enumerate(zip(self.urls, self.covers, strict=True))
        ]

    def _track(self, number: int, url: str, cover: str, *, audio: bool) -> dict[str, Any]:
        assert self.made is not None
        return {
            "id": f"{self.id[:8]}-{number:04d}-4000-8000-{self.id[-12:]}",
            "audio_url": url if audio else "",
            "source_audio_url": url if audio else "",
            "stream_audio_url": url if audio else "",
            "image_url": f"{self.origin}/delivery/{cover}",
            "prompt": self.request.get("prompt", ""),
            "model_name": "chirp-v4-5",
            "title": self.request.get("title") or "Untitled",
            "tags": self.request.get("style") or "calm, piano",
            "createTime": _moment(self.created),
            "duration": self.made.seconds if audio else None,
        }


def _camel(track: dict[str, Any]) -> dict[str, Any]:
    def name(snake: str) -> str:
        head, *tail = snake.split("_")
        return head + "".join(part.capitalize() for part in tail)

    return {name(key): value for key, value in track.items()}


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _moment(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
