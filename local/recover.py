"""`make recover`: run the recovery of lost predictions now, on the local cloud or on AWS (STACK=name), and tell what it
found."""

import sys

from local import scheduled

WORDS = {
    "listed": "predictions listed by providers",
    "settled": "of them settled already",
    "recovered": "of all recovered: adopted, recorded, or kept as late successes",
    "nobodys": "belong to no job (see the log)",
    "asked": "timed-out jobs asked about again",
    "forgotten": "of them need not be asked about any more",
    "silent": "providers or jobs that could not be asked",
    "failed": "could not be looked at (see the log)",
}


def main(stack_name: str | None) -> int:
    return 1 if scheduled.run("recover", "RecoverJobsFunction", WORDS, stack_name) is None else 0


if __name__ == "__main__":
    sys.exit(main(scheduled.stack_of(sys.argv[1:])))
