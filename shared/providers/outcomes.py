"""What a provider can say, in our words: predictions, and one class of error per answer (PROVIDERS §10).

ProviderError
├── Permanent              the job fails and its hold is released
│   ├── InvalidInput           the provider does not accept this input
│   ├── ContentRefused         its policy does not
│   ├── OperatorNeeded         our key or our funds there: the operator is told, the caller only "unavailable"
│   │   └── KeyRefused         …with this key; nothing was created, and another key of the pool may do
│   └── ModelGone              the job's model is in no catalogue and no module of ours any more
├── NothingCreated         safe to try again
│   ├── Throttled              too many requests (retry_after seconds, where told)
│   └── Unreachable            no connection was made, so nothing was sent
├── Ambiguous              a create that may have taken effect: look it up before anything is repeated
├── Silent                 a question (not a create) that was not answered: ask again later
└── Gone                   there is no such prediction (any more)
"""

from collections.abc import Iterator
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


class KeyRefused(OperatorNeeded):
    """Another key of the pool may still do."""


class ModelGone(Permanent):
    code = "model_gone"

    @property
    def failure(self) -> "Failure":
        return Failure(self.code, "The model is not on offer any more.")


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


class Unsearchable(ProviderError):
    code = "outcome_unknown"


class Gone(ProviderError):
    code = "prediction_gone"


@dataclass(frozen=True)
class Failure:
    """Why a job or a prediction has failed: a code for programs, a sentence for people."""

    code: str
    detail: str


@dataclass(frozen=True)
class Submission:
    """Work for a provider: `model` and `input` are in its own words. `webhook` is where it tells the end of a
    prediction, and carries the job's id; a provider that answers at once has no use for it."""

    job_id: str
    model: str
    input: dict[str, Any]
    webhook: str = ""


@dataclass(frozen=True)
class Output:
    """A file that a provider has made; `role` tells several of one job apart (`vocals`, `accompaniment`)."""

    url: str
    role: str = ""


@dataclass(frozen=True)
class Prediction:
    """What a provider says of one prediction.

    `progress` is 0–100 where it tells; `units` what it has billed, in the unit of the model's price, where it tells;
    `cost_usd` likewise. `data` is a result that comes inline instead of as files (a transcript): it may be large, is
    never written to the job, and is fetched again when it is needed.
    """

    id: str
    status: Status
    outputs: tuple[Output, ...] = ()
    failure: Failure | None = None
    progress: int | None = None
    units: float | None = None
    cost_usd: float | None = None
    data: Any = field(default=None, repr=False, compare=False)
    webhook: str | None = field(default=None, repr=False)

    @property
    def ended(self) -> bool:
        return self.status in ENDED


@dataclass(frozen=True)
class Notice:
    """A verified webhook. `prediction` is None where the signature does not cover it: then the provider is asked."""

    prediction_id: str
    prediction: Prediction | None


@dataclass(frozen=True)
class File:
    """A file as it streams from a provider that answers at once; `chunks` is read once, and raises Ambiguous if it
    breaks off. `length` is how many bytes were announced, where that is known."""

    chunks: Iterator[bytes]
    role: str = ""
    length: int | None = None


@dataclass
class Generation:
    """The answer of a provider that answers at once: `files` are read in order, each before the next; an Output is one
    that is only named. `units` and `cost_usd`, where it tells them, are there once all files have been read."""

    files: Iterator[File | Output]
    request_id: str | None = None
    units: float | None = None
    cost_usd: float | None = None
