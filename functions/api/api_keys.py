"""POST /v1/api-keys, GET /v1/api-keys, DELETE /v1/api-keys/{key_id} and POST /v1/api-keys/{key_id}/rotate: keys for
servers. The key itself is told in the answer that makes it, and never again."""

import re
from typing import Annotated, Any, Literal

from aws_lambda_powertools.event_handler import Response
from pydantic import BaseModel, ConfigDict, Field

from shared.access import keys
from shared.access.keys import Key, Made
from shared.core import ids, usage, web
from shared.core.clock import iso, now
from shared.core.errors import NotFound
from shared.core.text import Text
from shared.core.web import Cursor, IdempotencyKey, Limit

app = web.Api()

KEY_ID = re.compile(rf"key_([{ids.ALPHABET}]{{{ids.LENGTH}}})")

Scope = Literal["studio", "admin"]


class KeyRequest(BaseModel):
    """A key with some of the caller's own scopes."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[Text, Field(min_length=1, max_length=100)]
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=2)]
    expires_in_days: Annotated[int, Field(ge=1, le=366)] = 90


class RotateRequest(BaseModel):
    """For how many seconds the old key is good beside the new one."""

    model_config = ConfigDict(extra="forbid", strict=True)

    overlap_seconds: Annotated[int, Field(ge=0, le=7 * 24 * 3600)] = 3600


class KeyView(BaseModel):
    """A key without its secret. `last_used_at` is right to the hour."""

    id: str
    name: str
    prefix: str
    scopes: list[Scope]
    created_at: str
    expires_at: str
    last_used_at: str | None
    rotated_to: str | None

    @classmethod
    def of(cls, key: Key, last_used_at: float | None) -> "KeyView":
        return cls(**_fields(key), last_used_at=None if last_used_at is None else iso(last_used_at))


class NewKeyView(KeyView):
    """A new key; `key` is what to send as `Authorization: Bearer <key>`, and is told only here."""

    key: str


class KeyPage(BaseModel):
    items: list[KeyView]
    next_cursor: str | None


@app.post("/v1/api-keys", status_code=201)
def create_api_key(request: KeyRequest, idempotency_key: IdempotencyKey = None) -> Response[NewKeyView]:
    made = keys.create(
        web.caller(),
        label=request.name,
        scopes=tuple(dict.fromkeys(request.scopes)),
        days=request.expires_in_days,
        idempotency_key=idempotency_key,
        now=now(),
    )
    return _told(made)


@app.get("/v1/api-keys")
def list_api_keys(limit: Limit = 20, cursor: Cursor = None) -> KeyPage:
    found, following = keys.page(web.account(), limit=limit, cursor=cursor, now=now())
    used = usage.last_used([key.name for key in found])
    return KeyPage(items=[KeyView.of(key, used.get(key.name)) for key in found], next_cursor=following)


@app.delete("/v1/api-keys/<key_id>", status_code=204)
def delete_api_key(key_id: str) -> Response[str]:
    keys.delete(web.account(), _name(key_id), now())
    return Response(204, body="")


@app.post("/v1/api-keys/<key_id>/rotate", status_code=201)
def rotate_api_key(key_id: str, request: RotateRequest, idempotency_key: IdempotencyKey = None) -> Response[NewKeyView]:
    made = keys.rotate(
        web.caller(),
        _name(key_id),
        overlap_s=request.overlap_seconds,
        idempotency_key=idempotency_key,
        now=now(),
    )
    return _told(made)


def _told(made: Made) -> Response[NewKeyView]:
    headers = {"idempotency-replayed": "true"} if made.replayed else {}
    body = NewKeyView(**_fields(made.key), last_used_at=None, key=made.secret)
    return Response(201, content_type="application/json", body=body, headers=headers)


def _fields(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.label,
        "prefix": f"atl_{key.name}",
        "scopes": list(key.scopes),
        "created_at": iso(key.issued_at),
        "expires_at": iso(key.expires_at),
        "rotated_to": key.rotated_to,
    }


def _name(key_id: str) -> str:
    found = KEY_ID.fullmatch(key_id)
    if found is None:
        raise NotFound("There is no such API key.")
    return found[1]


handler = web.handler(app)
