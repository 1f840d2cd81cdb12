"""Every night: what was left over when a save or a deletion of a project did not come to its end."""

from collections.abc import Callable
from dataclasses import dataclass

from shared.core.log import count, logger
from shared.projects import leftovers, table

ENOUGH_TIME_S = 10


@dataclass
class Report:
    """How many documents that no version has were deleted, how many histories of deleted projects were emptied, and how
    many of both must wait."""

    documents: int = 0
    histories: int = 0
    failed: int = 0
    left: int = 0


def purge(time_left: Callable[[], float], now: float) -> Report:
    """Clear what is left over, while `time_left()` (seconds) lasts."""
    report = Report()
    for entry in leftovers.due(now):
        if time_left() < ENOUGH_TIME_S:
            report.left += 1
            continue
        name = leftovers.name_of(entry)
        try:
            if table.is_id(name):
                table.clear_history(name, now)
                leftovers.done(entry)
                report.histories += 1
            else:
                leftovers.clear(entry)
                report.documents += 1
        except Exception:  # noqa: BLE001 It stays on the list; the others are looked at.
            logger.exception("could not clear this", leftover=name)
            report.failed += 1
    count("OrphanedObjects", report.documents)
    count("LeftoversNotPurged", report.failed + report.left)
    logger.info("purged projects", **vars(report))
    return report
