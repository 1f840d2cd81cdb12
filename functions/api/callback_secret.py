"""GET /v1/callbacks/secret and POST /v1/callbacks/secret/rotate: what the caller's callbacks are signed with."""

from typing import Annotated

from aws_lambda_powertools.event_handler import Response
from pydantic import BaseModel, Field

from shared.core import callback_secrets, web
from shared.core.callback_secrets import Secret, TooManyRotations
from shared.core.clock import iso, now
from shared.core.errors import NotFound, Unavailable
from shared.core.web import IdempotencyKey

app = web.Api()


class PreviousSecret(BaseModel):
    """A secret that was replaced; until `expires_at` callbacks are signed with it as well."""

    secret: str
    created_at: str
    expires_at: str


class CallbackSecret(BaseModel):
    """The secret to verify callbacks with (Standard Webhooks)."""

    secret: Annotated[str, Field(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])]
    created_at: str
    previous: list[PreviousSecret]

    @classmethod
    def of(cls, secrets: tuple[Secret, ...]) -> "CallbackSecret":
        current, *before = secrets
        return cls(
            secret=current.secret,
            created_at=current.created_at,
            previous=[
                PreviousSecret(secret=each.secret, created_at=each.created_at, expires_at=iso(each.until or 0))
                for each in before
            ],
        )


@app.get("/v1/callbacks/secret")
def get_callback_secret() -> CallbackSecret:
    secrets = callback_secrets.read(web.account(), now())
    if not secrets:
        raise NotFound("There is no secret yet: POST /v1/callbacks/secret/rotate makes one.")
    return CallbackSecret.of(secrets)


@app.post("/v1/callbacks/secret/rotate")
def rotate_callback_secret(idempotency_key: IdempotencyKey = None) -> Response[CallbackSecret]:
    try:
        secrets, repeated = callback_secrets.rotate(web.account(), now(), idempotency_key=idempotency_key)
    except TooManyRotations as error:
        detail = "Too many rotations at once; try again."
        raise Unavailable(detail, code="busy", retry_after=1) from error
    headers = {"idempotency-replayed": "true"} if repeated else {}
    return Response(200, content_type="application/json", body=CallbackSecret.of(secrets), headers=headers)


handler = web.handler(app)
