"""Providers by the name the catalogue gives them: adding one is adding a module with these functions and a line."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from shared.providers import replicate
from shared.providers.http import Connection
from shared.providers.outcomes import Prediction, Submission


class Provider(Protocol):
    """What a provider's module does; its docstrings say what each may raise."""

    def connection(self) -> Connection: ...
    def submit(self, connection: Connection, submission: Submission) -> Prediction: ...
    def fetch(self, connection: Connection, prediction_id: str) -> Prediction: ...
    def cancel(self, connection: Connection, prediction_id: str) -> Prediction: ...
    def find(self, connection: Connection, job_id: str, since: float) -> Prediction | None: ...
    def parse_webhook(self, headers: Mapping[str, str], body: bytes, now: float) -> Prediction: ...


PROVIDERS: Mapping[str, Provider] = MappingProxyType({"replicate": replicate})
