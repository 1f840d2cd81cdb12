"""What a finished job costs: the caller in credits, us in dollars."""

from shared.core.log import count, logger
from shared.jobs.catalog import Model
from shared.jobs.table import Job


def of(job: Job, model: Model) -> tuple[int, float | None]:
    """Credits, and US dollars where they are known."""
    units = delivered(job, model)
    return charge(job, model, units), cost(job, model, units)


def of_gone(job: Job) -> tuple[int, float | None]:
    """The same for a model that the catalogue has no more: what was held for it was its price."""
    logger.error("the model's price is gone; the hold is charged", model=job.model, held=job.hold)
    count("ModelGone")
    return job.hold, job.result.cost_usd if job.result is not None else None


def delivered(job: Job, model: Model) -> float:
    """The units of the model's price that were delivered: what the provider reports, else what is in the files, else
    what was asked for."""
    if job.result is not None and job.result.units is not None:
        return job.result.units
    match model.price.per:
        case "image":
            return float(len(job.assets))
        case "second" if model.limits.max_input_s is None:
            told = [float(asset["duration_s"]) for asset in job.assets if asset.get("duration_s") is not None]
            return max(told) if told else job.units
    return job.units


def charge(job: Job, model: Model, units: float) -> int:
    """The credits for `units`; never more than the hold, and what is more than that is flagged."""
    price = model.price.of(units)
    if price > job.hold:
        logger.error("delivered more than was held for", units=units, price=price, held=job.hold)
        count("ChargeCapped")
    return min(job.hold, price)


def cost(job: Job, model: Model, units: float) -> float | None:
    """US dollars: what the provider reports, else the catalogue's price of the units; None where neither tells."""
    if job.result is not None and job.result.cost_usd is not None:
        return job.result.cost_usd
    return model.cost_of(units)
