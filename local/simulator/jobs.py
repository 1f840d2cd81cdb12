"""The life of a job at an asynchronous provider: timers, webhooks in the order a directive asks for, and a memory.

starting ──▶ processing ──▶ succeeded | failed | canceled
    └──────────────────────▶ aborted | canceled
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from local.simulator.delivery import Courier, Mailbox, Webhook
from local.simulator.directives import CreateFault, Directives, Fault, WebhookFault
from local.simulator.inputs import Unreachable
from local.simulator.keys import Key
from local.simulator.orders import Made
from local.simulator.outputs import Output

Status = Literal["starting", "processing", "succeeded", "failed", "canceled", "aborted"]
Event = Literal["start", "text", "first", "output", "completed"]

TERMINAL: frozenset[Status] = frozenset({"succeeded", "failed", "canceled", "aborted"})
REMEMBERED = 5_000
# How much of a job's time passes before it starts, and the longest it waits.
STARTING_SHARE, LONGEST_STARTING = 0.2, 1.0
FAILURE = "Prediction failed: the simulated model gave up (E1000)"
REFUSAL = "NSFW content detected. Try running it again, or try a different prompt."
# How long a job that never ends seems to take, for its progress.
SEEMING_LENGTH = 60.0


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job failed; `field` names the input that could not be read."""

    kind: Literal["failed", "refused", "input"]
    message: str
    field: str = ""


@dataclass(kw_only=True, eq=False)
class Job:
    """`work` fetches the inputs and makes the outputs; `milestones` are events at shares of the delay.

    `delivery` is the last webhook under way, `asked` when somebody wanted to know its status; times are Unix seconds.
    """

    id: str
    key: str = ""
    prompt: str
    directives: Directives
    webhook: str | None
    created: float
    deadline: float | None = None
    outputs: list[Output] = field(default_factory=list)
    status: Status = "starting"
    failure: Failure | None = None
    made: Made | None = None
    work: Callable[[], Awaitable[None]] | None = None
    milestones: Sequence[tuple[float, Event]] = ()
    reached: Event | None = None
    started: float | None = None
    completed: float | None = None
    cancel_requests: int = 0
    asked: list[float] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    mailbox: Mailbox = field(init=False)
    output_ready: bool = False
    timers: list[asyncio.TimerHandle] = field(default_factory=list)
    delivery: asyncio.Task[None] | None = None
    held_back: list[Webhook] = field(default_factory=list)

    def __post_init__(self) -> None:
        # Suno's CALLBACK_EXCEPTION tells that the callbacks did not arrive.
        unreachable = self.directives.outcome == "callback-exception"
        fault: WebhookFault = "lost" if unreachable else self.directives.webhook
        self.mailbox = Mailbox(Fault(fault, None if unreachable else self.directives.times))

    @property
    def error(self) -> str | None:
        return self.failure.message if self.failure and self.status == "failed" else None

    @property
    def milestones_ahead(self) -> list[Event]:
        events = [event for _, event in self.milestones]
        return events[events.index(self.reached) + 1 :] if self.reached else events

    @property
    def progress(self) -> int:
        """0 to 99 while it runs, 100 when it has succeeded."""
        if self.status == "succeeded":
            return 100
        if self.started is None:
            return 0
        length = SEEMING_LENGTH if self.directives.outcome == "never" else max(self.directives.delay, 0.01)
        return min(99, int(100 * ((self.completed or time.time()) - self.created) / length))

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
    """A create call that came in, also when nothing was created (`job_id` None). `key` is a fingerprint."""

    provider: str
    key: str
    webhook: str | None
    prompt: str
    answer: CreateFault
    job_id: str | None
    at: float


class Jobs[J: Job]:
    """The newest jobs of one provider, oldest first."""

    def __init__(self, provider: str, courier: Courier, *, late_after: float) -> None:
        self.provider = provider
        self.creates: deque[CreateRequest] = deque(maxlen=REMEMBERED)
        self.by_id: dict[str, J] = {}
        self._courier = courier
        self._late_after = late_after
        self._create_faults: dict[tuple[str | None, str], Fault[CreateFault]] = {}
        self._deliveries: set[asyncio.Task[None]] = set()
        self._works: dict[J, asyncio.Task[None]] = {}

    def create_fault(self, webhook: str | None, prompt: str, directives: Directives, key: Key) -> CreateFault:
        """What happens to this create. A repeat with the same webhook URL and prompt counts as the same thing."""
        if key.throttled:
            return "429"
        fault = self._create_faults.setdefault((webhook, prompt), Fault(directives.create, directives.times))
        _forget_oldest(self._create_faults)
        return fault.strike()

    def log_create(self, key: Key, webhook: str | None, prompt: str, answer: CreateFault, job: J | None) -> None:
        job_id = job.id if job else None
        self.creates.append(CreateRequest(self.provider, key.fingerprint, webhook, prompt, answer, job_id, time.time()))

    async def begin(self, job: J) -> None:
        """Set the job going. With `webhook=early` it is over, and its receiver has answered, when this returns."""
        self.by_id[job.id] = job
        _forget_oldest(self.by_id)
        directives = job.directives
        if job.work is not None and directives.outcome != "aborted":
            self._works[job] = asyncio.create_task(self._do(job, job.work))
        if directives.webhook == "early" and directives.outcome != "never":
            if job in self._works:
                await asyncio.wait([self._works[job]])
            self._end(job)
            if job.delivery is not None:
                await job.mailbox.tried_completed.wait()
            return
        if directives.outcome != "aborted":
            self._after(job, min(directives.delay * STARTING_SHARE, LONGEST_STARTING), self._start, job)
            for share, event in job.milestones:
                self._after(job, directives.delay * share, self._reach, job, event)
        if directives.outcome != "never":
            self._after(job, directives.delay, self._end, job)
        if job.deadline is not None:
            self._after(job, job.deadline - job.created, self._expire, job)

    def cancel(self, job: J) -> None:
        job.cancel_requests += 1
        if job.directives.cancel == "ok":
            self._finish(job, "canceled")

    async def close(self) -> None:
        """Give up everything under way and every timer."""
        for job in self.by_id.values():
            job.stop_timers()
        tasks = [*self._deliveries, *self._works.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _after[*Args](self, job: J, seconds: float, action: Callable[[*Args], None], *args: *Args) -> None:
        job.timers.append(asyncio.get_running_loop().call_later(seconds, action, *args))

    def _start(self, job: J) -> None:
        if job.status != "starting":
            return
        job.status, job.started = "processing", time.time()
        self._tell(job, "start")

    def _reach(self, job: J, event: Event) -> None:
        # Its time may have come while the inputs are still on their way.
        if job.status == "processing" and job.made is not None:
            job.reached = event
            self._tell(job, event)

    async def _do(self, job: J, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Unreachable as unreachable:
            job.failure = Failure("input", str(unreachable), unreachable.field)
        finally:
            del self._works[job]

    def _end(self, job: J) -> None:
        """What the directive asks for, once the inputs are there; if they cannot be had, the job fails."""
        if job in self._works:
            self._works[job].add_done_callback(lambda work: None if work.cancelled() else self._end(job))
            return
        match job.directives.outcome:
            case "succeeded" | "callback-exception":
                self._finish(job, "failed" if job.failure else "succeeded")
            case "failed":
                job.failure = job.failure or Failure("failed", FAILURE)
                self._finish(job, "failed")
            case "refused":
                job.failure = Failure("refused", REFUSAL)
                self._finish(job, "failed")
            case "canceled" | "aborted" as outcome:
                self._finish(job, outcome)

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
            for event in job.milestones_ahead:
                self._reach(job, event)
        if status == "succeeded":
            job.output_ready = True
            self._tell(job, "output")
        job.status, job.completed = status, time.time()
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
