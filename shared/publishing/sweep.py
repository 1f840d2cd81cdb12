"""The sweeper of publications: makes sure that an execution of the workflow looks after each that is not over.

An execution that waits for the time of a scheduled publication is let alone; a cancel that Postiz has not taken yet is
carried on in its place.
"""

from collections.abc import Callable

from shared.core.clock import now as current_time
from shared.core.dynamo import Refused
from shared.core.log import count, logger
from shared.core.settings import settings
from shared.providers.outcomes import ProviderError
from shared.publishing import publish, status, table, workflow

PAGE = 50
ENOUGH_TIME_S = 25


def sweep(time_left: Callable[[], float]) -> int:
    """Look after every due publication while `time_left()` (seconds) lasts; how many were given a new execution."""
    restarted = 0
    for number in range(table.SHARDS):
        while time_left() > ENOUGH_TIME_S:
            due = table.due(f"open#{number}", current_time(), limit=PAGE)
            for publication_id in due:
                if time_left() > ENOUGH_TIME_S:
                    restarted += _try(publication_id)
            if len(due) < PAGE:
                break
    count("PublicationsRestarted", restarted)
    return restarted


def _try(publication_id: str) -> bool:
    """Whatever is wrong with one publication is no reason to leave the others alone."""
    logger.append_keys(publication_id=publication_id)
    try:
        return _look_after(publication_id)
    except Refused:
        return False
    except Exception:  # noqa: BLE001 It comes again in a minute.
        logger.exception("could not look after this publication")
        count("SweepFailed")
        return False
    finally:
        logger.remove_keys(["publication_id"])


def _look_after(publication_id: str) -> bool:
    now = current_time()
    publication = table.get(publication_id)
    if publication is None or publication.terminal:
        return False
    canceling = publication.cancel_requested_at is not None
    at, scale = publication.publish_at, settings().time_scale
    wait = 0 if canceling else status.next_look(publication.status, publish_at=at, now=now, scale=scale)
    publication = table.claim_sweep(publication_id, now, wait=wait)
    running = workflow.running(publication)
    if running:
        if canceling and publication.status == "scheduled":
            try:
                publish.take_back(publication)
            except ProviderError as error:
                logger.warning("cannot take the posts back yet", code=error.code, reason=error.detail)
        return False
    logger.warning("nobody looks after this publication", status=publication.status)
    publish.note_lateness(publication, now)
    if running is not None:
        publication = table.next_execution(publication, now)
    workflow.start(publication, publish.first_step(publication))
    return True
