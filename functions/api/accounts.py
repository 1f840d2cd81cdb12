"""POST /v1/admin/accounts/{account_id}/revoke and PUT /v1/admin/accounts/{account_id}/plan: refuse everything that an
account was issued until now, and how often it may come (scope `admin`)."""

from typing import Annotated, Literal

from aws_lambda_powertools.event_handler import Response
from pydantic import AfterValidator, BaseModel, ConfigDict

from shared.access import revocation
from shared.core import auth, limits, web
from shared.core.clock import now
from shared.core.errors import Invalid
from shared.core.web import IdempotencyKey

app = web.Api(scope="admin")


def known_plan(name: str) -> str:
    """The plan's name. Refuse one that limits.toml does not have."""
    if name not in limits.plans():
        raise ValueError(f"must be one of {', '.join(limits.plans())}")
    return name


class PlanRequest(BaseModel):
    """The plan whose limits the account has from now on."""

    model_config = ConfigDict(extra="forbid", strict=True)

    plan: Annotated[str, AfterValidator(known_plan)]


class PlanView(BaseModel):
    account: str
    plan: str


class AccountRevocation(BaseModel):
    """After how many seconds at the most nobody takes any older token or API key of the account."""

    revoked: Literal["account"]
    effective_within_s: int


@app.post("/v1/admin/accounts/<account_id>/revoke")
def revoke_account(account_id: str, idempotency_key: IdempotencyKey = None) -> Response[AccountRevocation]:
    account = _account(account_id)
    answer, replayed = revocation.revoke_all(account, by=web.account(), idempotency_key=idempotency_key, now=now())
    headers = {"idempotency-replayed": "true"} if replayed else {}
    return Response(200, content_type="application/json", body=AccountRevocation(**answer), headers=headers)


@app.put("/v1/admin/accounts/<account_id>/plan")
def set_plan(account_id: str, request: PlanRequest) -> PlanView:
    account = _account(account_id)
    revocation.set_plan(account, request.plan)
    return PlanView(account=account, plan=request.plan)


def _account(account_id: str) -> str:
    if not auth.ACCOUNT.fullmatch(account_id):
        raise Invalid("The request is not valid.", errors=[{"pointer": "?account_id", "detail": "is no account id"}])
    return account_id


handler = web.handler(app)
