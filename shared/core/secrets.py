"""Secrets, read when first needed and forgotten after a minute, so that a rotation needs no deploy."""

import json
from collections.abc import Iterator
from typing import Any

from aws_lambda_powertools.utilities import parameters
from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError

from shared.core.errors import Unavailable
from shared.core.log import hide, logger

MAX_AGE_S = 60


def text(name: str) -> str:
    """The value of the secret `name`. Raises Unavailable (503 `unconfigured`) while it has none: closed, never open."""
    try:
        value = parameters.get_secret(name, max_age=MAX_AGE_S)
    except GetParameterError as error:
        logger.error("secret has no readable value", secret=name, reason=str(error))
        raise Unavailable("This service is not configured yet.", code="unconfigured") from error
    if not isinstance(value, str) or not value.strip():
        logger.error("secret is empty", secret=name)
        raise Unavailable("This service is not configured yet.", code="unconfigured")
    _hide(value)
    return value.strip()


def document(name: str) -> dict[str, Any]:
    """The value of the secret `name` as a JSON object. Raises Unavailable as `text` does, also when it is not one."""
    try:
        value = json.loads(text(name))
    except json.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        logger.error("secret is not a JSON object", secret=name)
        raise Unavailable("This service is not configured yet.", code="unconfigured")
    return value


def _hide(value: str) -> None:
    """Let no log show the secret, nor any text within it."""
    try:
        inside = json.loads(value)
    except json.JSONDecodeError:
        inside = value.strip()
    for each in _texts(inside):
        hide(each)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)
