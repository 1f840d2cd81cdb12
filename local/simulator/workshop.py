"""From an order to published files: fetch what the input names, make what comes of it."""

from collections.abc import Awaitable, Callable

from local.simulator.inputs import Fetcher
from local.simulator.jobs import Job
from local.simulator.orders import Made, Order, carry_out
from local.simulator.outputs import Output, Outputs
from local.simulator.recordings import Recipe


class Workshop:
    def __init__(self, fetcher: Fetcher, outputs: Outputs) -> None:
        self._fetcher = fetcher
        self._outputs = outputs

    def work(self, job: Job, order: Order) -> Callable[[], Awaitable[None]]:
        """What `job` does to carry out `order`. Raises Unreachable."""

        async def work() -> None:
            made = carry_out(order, await self._fetcher.all(dict(order.given)))
            job.outputs = self.publish(job, made)
            job.made = made

        return work

    def publish(self, job: Job, made: Made) -> list[Output]:
        def path(name: str, recipe: Recipe) -> str:
            return f"{job.id}/{f'out-{name}' if name.isdigit() else name}.{recipe.format}"

        return [
            self._outputs.publish(path(name, recipe), recipe, job.directives) for name, recipe in made.files.items()
        ]
