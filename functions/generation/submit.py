"""Step Functions, Submit: look up what an earlier attempt may have created at the provider; else create it."""

from shared.jobs import find, steps, submit
from shared.jobs.steps import State, Step


@steps.handler
def handler(state: State) -> Step:
    return submit.resume(find.any_account(state["job_id"]))
