"""The life of a job at an asynchronous provider: timers, webhooks in the order a directive asks for, and a memory.

starting ──▶ processing ──▶ succeeded | failed | canceled
    └──────────────────────▶ aborted | canceled
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal

from local.simulator.delivery import Courier, Mailbox, Webhook
from local.simulator.directives import CreateFault, Directives, Fault
from local.simulator.outputs import Output

Status = Literal["starting", "processing", "succeeded", "failed", "canceled", "aborted"]
Event = Literal["start", "output", "completed"]

TERMINAL: frozenset[Status] = frozenset({"succeeded", "failed", "canceled", "aborted"})
REMEMBERED = 5_000
# How much of a job's time passes before it starts, and the longest it waits.
STARTING_SHARE, LONGEST_STARTING = 0.2, 1.0
FAILURE = "Prediction failed: the simulated model gave up (E1000)"


@dataclass(kw_only=True, eq=False)
class Job:
    """`delivery` is the last webhook under way; the times are Unix seconds."""

    id: str
    prompt: str
    directives: Directives
    webhook: str | None
    created: float
    deadline: float | None = None
    outputs: list[Output] = field(default_factory=list)
    status: Status = "starting"
    error: str | None = None
    started: float | None = None
    completed: float | None = None
    cancel_requests: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    mailbox: Mailbox = field(init=False)
    output_ready: bool = False
    timers: list[asyncio.TimerHandle] = field(default_factory=list)
    delivery: asyncio.Task[None] | None = None
    held_back: list[Webhook] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.mailbox = Mailbox(Fault(self.directives.webhook, self.directives.times))

    def notice(self, event: Event) -> Webhook | None:
        """The webhook that tells of `event` as the job stands now; None when nobody asked to be told."""
        return None

    async def wait(self, seconds: float) -> None:
        """Until the job has ended, at most `seconds`."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.ended.wait(), seconds)

    def stop_timers(self) -> None:
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """A create call that came in, also when nothing was created (`job_id` None)."""

    webhook: str | None
    prompt: str
    answer: CreateFault
    job_id: str | None
    at: float


class Jobs[J: Job]:
    """The newest jobs of one provider, oldest first."""

    def __init__(self, courier: Courier, *, late_after: float) -> None:
        self.creates: deque[CreateRequest] = deque(maxlen=REMEMBERED)
        self.by_id: dict[str, J] = {}
        self._courier = courier
        self._late_after = late_after
        self._create_faults: dict[tuple[str | None, str], Fault[CreateFault]] = {}
        self._deliveries: set[asyncio.Task[None]] = set()

    def create_fault(self, webhook: str | None, prompt: str, directives: Directives) -> CreateFault:
        """What happens to this create. A repeat with the same webhook URL and prompt counts as the same thing."""
        key = (webhook, prompt)
        fault = self._create_faults.setdefault(key, Fault(directives.create, directives.times))
        _forget_oldest(self._create_faults)
        return fault.strike()

    def log_create(self, webhook: str | None, prompt: str, answer: CreateFault, job: J | None) -> None:
        self.creates.append(CreateRequest(webhook, prompt, answer, job.id if job else None, time.time()))

    async def begin(self, job: J) -> None:
        """Set the job going. With `webhook=early` it is over, and its receiver has answered, when this returns."""
        self.by_id[job.id] = job
        _forget_oldest(self.by_id)
        directives = job.directives
        if directives.webhook == "early" and directives.outcome != "never":
            self._finish(job, directives.outcome)
            if job.delivery is not None:
                await job.mailbox.tried_completed.wait()
            return
        if directives.outcome != "aborted":
            self._after(job, min(directives.delay * STARTING_SHARE, LONGEST_STARTING), self._start, job)
        if directives.outcome != "never":
            self._after(job, directives.delay, self._finish, job, directives.outcome)
        if job.deadline is not None:
            self._after(job, job.deadline - job.created, self._expire, job)

    def cancel(self, job: J) -> None:
        job.cancel_requests += 1
        if job.directives.cancel == "ok":
            self._finish(job, "canceled")

    async def close(self) -> None:
        """Give up every delivery under way and every timer."""
        for job in self.by_id.values():
            job.stop_timers()
        for task in self._deliveries:
            task.cancel()
        await asyncio.gather(*self._deliveries, return_exceptions=True)

    def _after[*Args](self, job: J, seconds: float, action: Callable[[*Args], None], *args: *Args) -> None:
        job.timers.append(asyncio.get_running_loop().call_later(seconds, action, *args))

    def _start(self, job: J) -> None:
        if job.status != "starting":
            return
        job.status, job.started = "processing", time.time()
        self._tell(job, "start")

    def _expire(self, job: J) -> None:
        self._finish(job, "aborted" if job.status == "starting" else "canceled")

    def _finish(self, job: J, status: Status) -> None:
        if job.status in TERMINAL:
            return
        job.stop_timers()
        # Timers that fall together may ring in any order, and an early job was never started by one.
        if status in ("succeeded", "failed"):
            self._start(job)
        if status == "succeeded":
            job.output_ready = True
            self._tell(job, "output")
        job.status, job.completed = status, time.time()
        job.error = FAILURE if status == "failed" else None
        job.ended.set()
        completed = job.notice("completed")
        if completed is not None or job.held_back:
            job.delivery = self._send(self._deliver_end(job, completed, job.delivery))

    def _tell(self, job: J, event: Event) -> None:
        """Send an intermediate webhook, unless the final one has to come before it or instead of it."""
        webhook = job.notice(event)
        if webhook is None or job.directives.webhook == "early":
            return
        if job.directives.webhook == "reordered":
            job.held_back.append(webhook)
        else:
            job.delivery = self._send(self._deliver_next(job, webhook, job.delivery))

    async def _deliver_next(self, job: J, webhook: Webhook, previous: asyncio.Task[None] | None) -> None:
        await _over(previous)
        await self._courier.deliver(webhook, job.mailbox, retried=False)

    async def _deliver_end(self, job: J, completed: Webhook | None, previous: asyncio.Task[None] | None) -> None:
        await _over(previous)
        if job.directives.webhook == "late":
            await asyncio.sleep(job.created + self._late_after - time.time())
        if completed is not None:
            for _ in range(2 if job.directives.webhook == "twice" else 1):
                await self._courier.deliver(completed, job.mailbox, retried=True)
        for webhook in job.held_back:
            await self._courier.deliver(webhook, job.mailbox, retried=False)

    def _send(self, delivery: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(delivery)
        self._deliveries.add(task)
        task.add_done_callback(self._deliveries.discard)
        return task


async def _over(previous: asyncio.Task[None] | None) -> None:
    """Webhooks of one job leave in order: each waits for the answer to the one before, whatever it was."""
    if previous is not None:
        await asyncio.wait([previous])


def _forget_oldest[Key, Value](memory: dict[Key, Value]) -> None:
    if len(memory) > REMEMBERED:
        del memory[next(iter(memory))]
