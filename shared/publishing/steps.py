"""What a step of the publishing workflow says happens next; `publishing.asl.json` routes by it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from shared.core.acting import as_actor
from shared.core.log import logger
from shared.core.trace import noted
from shared.publishing import table
from shared.publishing.table import Publication

Next = Literal["upload", "upload_again", "submit", "submit_again", "follow", "follow_again", "done"]

State = dict[str, Any]
"""What flows through the workflow: publication_id, next, wait_seconds."""


@dataclass(frozen=True)
class Step:
    """`wait_seconds` goes with `upload_again`, `submit_again` and `follow_again`."""

    next: Next
    wait_seconds: int = 0

    def state(self, publication_id: str) -> State:
        return {"publication_id": publication_id, "next": self.next, "wait_seconds": self.wait_seconds}


def handler(step: Callable[[Publication], Step]) -> Callable[[State, object], State]:
    """The Lambda handler of a workflow step: takes the workflow's state, returns the next one.

    What a step raises is what nobody expected; the state machine retries it, then leaves it to the sweeper.
    """

    def handle(state: State, context: object) -> State:
        publication_id = str(state["publication_id"])
        request = {"request_id": state["request_id"]} if "request_id" in state else {}
        logger.append_keys(publication_id=publication_id, request_id=request.get("request_id"))
        try:
            with as_actor("system:workflow", request_id=str(request.get("request_id", ""))), noted("step"):
                publication = table.get(publication_id)
                if publication is None:
                    raise LookupError(f"there is no {publication_id}")
                outcome = step(publication)
        except Exception:
            logger.exception("step failed")
            raise
        logger.info("step", next=outcome.next, wait_seconds=outcome.wait_seconds)
        return {**outcome.state(publication_id), **request}

    return handle
