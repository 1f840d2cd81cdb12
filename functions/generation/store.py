"""Step Functions, Store: stream the results into the bucket and make them assets."""

from shared.jobs import find, steps, store
from shared.jobs.steps import State, Step


@steps.handler
def handler(state: State) -> Step:
    return store.store(find.any_account(state["job_id"]))
