"""`make reconcile`: recompute the balances of every account that is due, on the local cloud or on AWS (STACK=name); the
exit code says whether the ledger adds up."""

import sys

from local import scheduled

WORDS = {
    "checked": "accounts recomputed from their entries",
    "different": "of them do not add up (see the log)",
    "failed": "accounts that could not be read (see the log)",
    "left": "accounts left for the next time",
}


def main(stack_name: str | None) -> int:
    report = scheduled.run("reconcile", "ReconcileLedgerFunction", WORDS, stack_name)
    return 0 if report is not None and not report["different"] and not report["failed"] else 1


if __name__ == "__main__":
    sys.exit(main(scheduled.stack_of(sys.argv[1:])))
