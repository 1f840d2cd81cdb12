"""Providers by the name the catalogue gives them: adding one is adding a module with these functions and a line."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Protocol, cast

from shared.providers.http import Connection
from shared.providers.outcomes import Generation, ModelGone, Notice, Prediction, Submission


class Predictor(Protocol):
    """A provider that is asked now and answers later. The modules' docstrings say what each function may raise."""

    def connection(self, key: str) -> Connection: ...
    def submit(self, connection: Connection, submission: Submission) -> Prediction: ...
    def fetch(self, connection: Connection, model: str, prediction_id: str) -> Prediction: ...
    def cancel(self, connection: Connection, model: str, prediction_id: str) -> Prediction | None: ...
    def find(self, connection: Connection, model: str, job_id: str, since: float) -> Prediction | None: ...
    def parse_webhook(self, headers: Mapping[str, str], body: bytes, now: float) -> Notice: ...


class Generator(Protocol):
    """A provider that answers at once, with the files themselves."""

    def connection(self, key: str) -> Connection: ...
    def generate(self, connection: Connection, submission: Submission) -> AbstractContextManager[Generation]: ...


PREDICTORS = frozenset({"replicate", "kie", "fal"})
GENERATORS = frozenset({"openai", "elevenlabs", "gemini"})


def predictor(name: str) -> Predictor:
    """The module of a provider that answers later. Raises ModelGone; only the one that is used is imported."""
    if name not in PREDICTORS:
        raise ModelGone(f"there is no provider {name} that answers later")
    return cast(Predictor, import_module(f"shared.providers.{name}"))


def generator(name: str) -> Generator:
    """The module of a provider that answers at once. Raises ModelGone."""
    if name not in GENERATORS:
        raise ModelGone(f"there is no provider {name} that answers at once")
    return cast(Generator, import_module(f"shared.providers.{name}"))
