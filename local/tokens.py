"""`make -s token SUB=carol SCOPE=studio TTL=3600`: print a JWT of the running local cloud, and nothing else."""

import argparse
import sys

from botocore.exceptions import BotoCoreError, ClientError

from local.cloud import CloudError, Stack
from local.up import state_dir


def main() -> int:
    """Print the token; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m local.tokens", description=__doc__)
    parser.add_argument("sub", help="the account, e.g. carol")
    parser.add_argument("scope", help='scopes separated by blanks, e.g. "studio admin"')
    parser.add_argument("ttl", type=int, help="seconds until it expires; negative for an expired one")
    arguments = parser.parse_args()
    try:
        print(Stack.load(state_dir()).token(arguments.sub, arguments.scope, arguments.ttl))
    except CloudError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (ClientError, BotoCoreError) as error:
        print(f"error: the local cloud does not answer: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
