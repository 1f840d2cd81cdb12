"""The queue of callbacks that are due: a message names the job, nothing more."""

import json
import math

from shared.core import aws
from shared.core.settings import settings

LONGEST_DELAY_S = 900
"""SQS keeps no message back for longer."""


def send(job_id: str, account: str, *, delay: float = 0, waits: int = 0) -> None:
    """Have the job's callback attempted after `delay` seconds. Its account is the message group: the queue is fair."""
    aws.sqs().send_message(
        QueueUrl=settings().callbacks_queue,
        MessageBody=json.dumps({"job_id": job_id, "waits": waits}),
        DelaySeconds=math.ceil(delay),
        MessageGroupId=account,
    )


def read(body: str) -> tuple[str, int]:
    """The job's id, and how often the message met an account that was busy."""
    message = json.loads(body)
    return message["job_id"], message["waits"]
