"""What a step of the generation workflow says happens next; `generation.asl.json` routes by it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from shared.core.acting import as_actor
from shared.core.log import logger
from shared.core.trace import noted
from shared.jobs.status import Ending
from shared.providers.outcomes import Failure

Next = Literal[
    "await",
    "await_longer",
    "submit",
    "backoff",
    "generate",
    "generate_again",
    "listen",
    "store",
    "store_again",
    "poll",
    "settle",
    "fail",
    "done",
]

State = dict[str, Any]
"""What flows through the workflow: job_id, next, and what the next state needs; never more than a kilobyte."""


@dataclass(frozen=True)
class Step:
    """`wait_seconds` goes with `backoff`, `generate_again` and `store_again`, `ending` and `failure` with `fail`."""

    next: Next
    wait_seconds: int = 0
    ending: Ending | None = None
    failure: Failure | None = None

    def state(self, job_id: str) -> State:
        state: State = {"job_id": job_id, "next": self.next, "wait_seconds": self.wait_seconds}
        if self.ending and self.failure:
            state |= {"ending": self.ending, "error": vars(self.failure)}
        return state


def fail(ending: Ending, code: str, detail: str) -> Step:
    return Step("fail", ending=ending, failure=Failure(code, detail))


def handler(step: Callable[[State], Step]) -> Callable[[State, object], State]:
    """The Lambda handler of a workflow step: takes the workflow's state, returns the next one.

    What a step raises is what nobody expected; the state machine retries it, then leaves the job to the sweeper.
    """

    def handle(state: State, context: object) -> State:
        job_id = str(state["job_id"])
        request = {"request_id": state["request_id"]} if "request_id" in state else {}
        logger.append_keys(job_id=job_id, request_id=request.get("request_id"))
        try:
            with as_actor("system:workflow", request_id=str(request.get("request_id", ""))), noted("step"):
                outcome = step(state)
        except Exception:
            logger.exception("step failed")
            raise
        logger.info("step", next=outcome.next, ending=outcome.ending, error=outcome.failure and outcome.failure.code)
        return {**outcome.state(job_id), **request}

    return handle
