"""Step Functions, Fail: the job ends without a result and its hold goes back, in one transaction."""

from shared.jobs import find, settle, steps
from shared.jobs.steps import State, Step
from shared.providers.outcomes import Failure


@steps.handler
def handler(state: State) -> Step:
    settle.fail(find.any_account(state["job_id"]), state["ending"], Failure(**state["error"]))
    return Step("done")
