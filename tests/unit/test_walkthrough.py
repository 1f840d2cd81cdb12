"""docs/MODELS.md says how a model is added: with lines of the catalogue only. This follows it."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.jobs import catalog
from shared.jobs.requests import ImageRequest, units
from shared.providers import replicate
from shared.providers.http import Connection
from shared.providers.outcomes import Submission

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def section() -> str:
    found = re.search(r"```toml\n(.*?)```", (ROOT / "docs" / "MODELS.md").read_text(), re.DOTALL)
    assert found is not None
    return found.group(1)


def test_the_section_of_the_walkthrough_is_all_that_a_new_model_needs(section: str) -> None:
    existing = (ROOT / "shared" / "catalog.toml").read_text()
    assert not set(tomllib.loads(section)) & set(tomllib.loads(existing))

    model = catalog.parse(existing + section)["painter"]
    fields = ImageRequest(prompt="a boat", count=2, aspect_ratio="16:9").fields(model)
    sent: list[dict[str, Any]] = []

    def provider(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/v1/models/acme/painter/predictions"
        sent.append(json.loads(request.content))
        return httpx.Response(201, json={"id": "p1", "status": "starting"})

    http = httpx.Client(base_url="https://api.example/v1", transport=httpx.MockTransport(provider))
    made = replicate.submit(
        Connection(http), Submission("job_1", model.provider_model, model.provider_input(fields), "https://x.example/")
    )

    assert made.id == "p1"
    assert sent[0]["input"] == {"format": "png", "text": "a boat", "ratio": "16:9", "images": "2"}
    assert model.price.of(units(model, fields, None)) == 10
