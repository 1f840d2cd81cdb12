"""POST /v1/auth/revoke: refuse a token of the caller, an API key, or everything the caller's account was issued."""

from typing import Annotated, Literal

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Body
from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.access import keys, revocation
from shared.core import api_keys, auth, web
from shared.core.auth import Caller
from shared.core.clock import now
from shared.core.dynamo import Item
from shared.core.errors import Invalid, NotFound, Unauthorized
from shared.core.text import Text
from shared.core.web import IdempotencyKey

app = web.Api()

LAST_SECOND = 253_402_300_799  # of the year 9999


class RevokeRequest(BaseModel):
    """What to revoke: `token` (a token or API key of the caller's account), `jti` with the `expires_at` of its token
    (epoch seconds, its `exp`), `all`, or nothing of these: what the request itself came with."""

    model_config = ConfigDict(extra="forbid", strict=True)

    token: Annotated[Text | None, Field(min_length=1, max_length=auth.LONGEST_CREDENTIAL)] = None
    jti: Annotated[Text | None, Field(min_length=1, max_length=auth.LONGEST_JTI)] = None
    expires_at: Annotated[int | None, Field(ge=1, le=LAST_SECOND)] = None
    all: Literal[True] | None = None

    @model_validator(mode="after")
    def one_thing(self) -> "RevokeRequest":
        if sum(told is not None for told in (self.token, self.jti, self.all)) > 1:
            raise ValueError("only one of token, jti and all can be revoked at once")
        if (self.jti is None) != (self.expires_at is None):
            raise ValueError("jti and expires_at belong together")
        return self


class Revocation(BaseModel):
    """What was revoked, and after how many seconds at the most nobody takes it any more."""

    revoked: Literal["token", "api_key", "account"]
    effective_within_s: int


@app.post("/v1/auth/revoke")
def revoke(
    request: Annotated[RevokeRequest | None, Body()] = None, idempotency_key: IdempotencyKey = None
) -> Response[Revocation]:
    answer, replayed = _revoke(web.caller(), request or RevokeRequest(), idempotency_key)
    headers = {"idempotency-replayed": "true"} if replayed else {}
    return Response(200, content_type="application/json", body=Revocation(**answer), headers=headers)


def _revoke(caller: Caller, request: RevokeRequest, key: str | None) -> tuple[Item, bool]:
    if request.all:
        return revocation.revoke_all(caller.account, by=caller.account, idempotency_key=key, now=now())
    if request.jti is not None and request.expires_at is not None:
        return _token(caller, request.jti, request.expires_at, key)
    if request.token is None:
        if caller.is_key:
            return _key(caller.account, caller.credential, key)
        return _token(caller, caller.credential, caller.expires_at, key)
    if api_keys.looks_like_one(request.token):
        return _key(caller.account, api_keys.name_of(request.token), key)
    try:
        token = auth.verify(request.token)
    except Unauthorized:
        raise _not_yours() from None
    if token.account != caller.account:
        raise _not_yours()
    return _token(caller, token.id, token.expires_at, key)


def _token(caller: Caller, token: str, expires_at: float, key: str | None) -> tuple[Item, bool]:
    account = caller.account
    return revocation.revoke_token(account, token, by=account, expires_at=expires_at, idempotency_key=key, now=now())


def _key(account: str, name: str | None, idempotency_key: str | None) -> tuple[Item, bool]:
    try:
        return keys.revoke(account, name or "", idempotency_key=idempotency_key, now=now())
    except NotFound:
        raise _not_yours() from None


def _not_yours() -> Invalid:
    flaw = {"pointer": "/token", "detail": "is no valid token or API key of your account"}
    return Invalid("The request is not valid.", errors=[flaw])


handler = web.handler(app)
