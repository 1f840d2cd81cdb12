"""What a provider can say, in our words: predictions, and one class of error per answer (PROVIDERS §10).

ProviderError
├── Permanent              the job fails and its hold is released
│   ├── InvalidInput           the provider does not accept this input
│   ├── ContentRefused         its policy does not
│   └── OperatorNeeded         our key or our funds there: the operator is told, the caller only "unavailable"
├── NothingCreated         safe to try again
│   ├── Throttled              too many requests (retry_after seconds, where told)
│   └── Unreachable            no connection was made, so nothing was sent
├── Ambiguous              a create that may have taken effect: look it up before anything is repeated
├── Silent                 a question (not a create) that was not answered: ask again later
└── Gone                   there is no such prediction (any more)
"""

from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["starting", "processing", "succeeded", "failed", "canceled"]

ENDED: frozenset[Status] = frozenset({"succeeded", "failed", "canceled"})


class ProviderError(Exception):
    """Base of all; `code` and `detail` are what the job will say."""

    code = "provider_error"

    def __init__(self, detail: str, *, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after

    @property
    def failure(self) -> "Failure":
        return Failure(self.code, self.detail)


class Permanent(ProviderError):
    pass


class InvalidInput(Permanent):
    code = "invalid_input"


class ContentRefused(Permanent):
    code = "content_refused"


class OperatorNeeded(Permanent):
    code = "provider_unavailable"

    @property
    def failure(self) -> "Failure":
        """What is wrong with our key or our funds is for the log: to the caller it would read as their own."""
        return Failure(self.code, "The provider cannot be used at the moment.")


class NothingCreated(ProviderError):
    pass


class Throttled(NothingCreated):
    code = "provider_throttled"


class Unreachable(NothingCreated):
    code = "provider_unreachable"


class Ambiguous(ProviderError):
    code = "provider_unavailable"


class Silent(ProviderError):
    code = "provider_unavailable"


class Gone(ProviderError):
    code = "prediction_gone"


@dataclass(frozen=True)
class Failure:
    """Why a job or a prediction has failed: a code for programs, a sentence for people."""

    code: str
    detail: str


@dataclass(frozen=True)
class Submission:
    """A prediction to be made: `webhook` is where the provider tells its end, and carries the job's id."""

    job_id: str
    model: str
    input: dict[str, Any]
    webhook: str


@dataclass(frozen=True)
class Prediction:
    """What a provider says of one prediction; `outputs` are URLs, `seconds` what it says it has computed."""

    id: str
    status: Status
    outputs: tuple[str, ...] = ()
    failure: Failure | None = None
    seconds: float | None = None
    webhook: str | None = field(default=None, repr=False)

    @property
    def ended(self) -> bool:
        return self.status in ENDED
