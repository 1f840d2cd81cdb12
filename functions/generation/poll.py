"""Step Functions, Poll: nobody has told us, so ask the provider, and decide by the job's deadlines."""

from shared.jobs import find, observe, steps
from shared.jobs.steps import State, Step


@steps.handler
def handler(state: State) -> Step:
    return observe.poll(find.any_account(state["job_id"]))
