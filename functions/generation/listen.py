"""Step Functions, Listen: find what is quiet in a clip and, where that was asked for, take it out of its project."""

from shared.jobs import find, steps
from shared.jobs.steps import State, Step
from shared.silence import listen


@steps.handler
def handler(state: State) -> Step:
    return listen.listen(find.any_account(state["job_id"]))
