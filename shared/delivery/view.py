"""What a caller sees of a callback: its delivery log."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from shared.core.clock import iso
from shared.delivery.deliveries import Delivery
from shared.jobs.table import Job


class AttemptView(BaseModel):
    """One attempt. It has a status code, or else the class of what kept an answer from coming."""

    model_config = ConfigDict(title="CallbackAttempt")

    at: str
    status_code: int | None
    error: Annotated[
        str | None, Field(description="`timeout`, `no_answer`, `no_address`, `address_refused` or `no_secret`.")
    ]
    duration_ms: int


class CallbackView(BaseModel):
    """The callback of a job, and its newest attempts. It is `waiting` until the job has ended."""

    model_config = ConfigDict(title="Callback")

    job_id: str
    url: str
    state: Literal["waiting", "pending", "delivered", "disabled", "dead"]
    webhook_id: str | None
    type: Annotated[str | None, Field(examples=["job.succeeded"])]
    attempts: list[AttemptView]
    next_attempt_at: str | None

    @classmethod
    def of(cls, delivery: Delivery) -> Self:
        return cls(
            job_id=delivery.id,
            url=delivery.url,
            state=delivery.state,
            webhook_id=delivery.webhook_id,
            type=delivery.type,
            attempts=[AttemptView.model_validate(vars(attempt)) for attempt in delivery.attempts],
            next_attempt_at=iso(delivery.next_attempt_at) if delivery.next_attempt_at is not None else None,
        )

    @classmethod
    def waiting(cls, job: Job) -> Self:
        """That of a job which has not ended, or a moment ago."""
        return cls(
            job_id=job.id,
            url=job.callback_url or "",
            state="waiting",
            webhook_id=None,
            type=None,
            attempts=[],
            next_attempt_at=None,
        )


class DeadCallbackView(CallbackView):
    """A callback that was given up, for an administrator."""

    model_config = ConfigDict(title="DeadCallback")

    account: str

    @classmethod
    def of(cls, delivery: Delivery) -> Self:
        return cls(account=delivery.account, **vars(CallbackView.of(delivery)))


class DeadCallbackPage(BaseModel):
    items: list[DeadCallbackView]
    next_cursor: str | None
