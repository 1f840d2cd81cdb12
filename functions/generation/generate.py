"""Step Functions, Generate: call a provider that answers at once, and stream what it answers into the bucket."""

from shared.jobs import find, generate, steps
from shared.jobs.steps import State, Step


@steps.handler
def handler(state: State) -> Step:
    return generate.generate(find.any_account(state["job_id"]))
