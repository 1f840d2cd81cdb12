"""python -m local.simulator --port 0 --endpoint http://127.0.0.1:4566 --late-after 25"""

import argparse
import signal
import sys

from local.simulator.app import Settings, create_app
from local.simulator.delivery import new_secret
from local.simulator.fal_signing import new_seed
from local.simulator.server import listen, make_server, origin


def main() -> None:
    # uvicorn ends gently and then raises the signal it caught once more, which by default would end us with its number.
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, lambda *_: sys.exit(0))
    options = _options()
    settings = Settings(
        endpoint=options.endpoint,
        late_after=options.late_after,
        webhook_secret=options.webhook_secret or new_secret(),
        kie_hmac_key=options.kie_key or new_secret(),
        fal_seed=options.fal_seed or new_seed(),
    )
    listener = listen(options.port)
    ready = f"simulator ready {origin(listener)}"
    make_server(create_app(settings), lambda: print(ready, flush=True)).run(sockets=[listener])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local.simulator", description="Simulated AI media providers.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--endpoint", default=Settings.endpoint, help="URL of the AWS emulator")
    parser.add_argument("--late-after", type=float, default=Settings.late_after, help="seconds, for webhook=late")
    parser.add_argument("--webhook-secret", help="Replicate's, whsec_…; random unless given")
    parser.add_argument("--kie-key", help="HMAC key of KIE's callbacks; random unless given")
    parser.add_argument(
        "--fal-seed", type=_seed, help="private key of fal's webhooks, 64 hex digits; random unless given"
    )
    return parser.parse_args()


def _seed(text: str) -> bytes:
    seed = bytes.fromhex(text)
    if len(seed) != 32:
        raise argparse.ArgumentTypeError("a seed has 64 hex digits")
    return seed


if __name__ == "__main__":
    main()
