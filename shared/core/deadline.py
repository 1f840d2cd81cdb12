"""A call that takes no longer than it may, whatever it waits for."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


def within[T](seconds: float, call: Callable[[], T]) -> T:
    """The call's result, or what it raised. Raises TimeoutError when there is neither after `seconds`; the call then
    goes on in a thread of its own, and nobody waits for it."""
    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(call).result(timeout=seconds)
    finally:
        pool.shutdown(wait=False)
