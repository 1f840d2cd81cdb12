"""GET /v1/openapi.json and GET /v1/docs: one document over all functions of the HTTP API, and the page of it. Open."""

import hashlib
import importlib
import json
from base64 import b64encode
from functools import cache
from pathlib import Path
from typing import Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.merge import OpenAPIMerge

from shared.core import web
from shared.core.web import Api
from shared.document import contract, page

app = web.Api(scope=web.OPEN)

CACHED = {"cache-control": "max-age=300"}


@app.get("/v1/openapi.json")
def get_openapi() -> Response[dict[str, Any]]:
    return Response(200, content_type="application/json", body=document(), headers=CACHED)


@app.get("/v1/docs")
def get_docs() -> Response[str]:
    # The page has one style and nothing else that a browser would run or load.
    style = b64encode(hashlib.sha256(page.STYLE.encode()).digest()).decode()
    nothing = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    policy = f"{nothing}; style-src 'sha256-{style}'"
    headers = {**CACHED, "content-security-policy": policy, "x-content-type-options": "nosniff"}
    return Response(200, content_type="text/html; charset=utf-8", body=_page(), headers=headers)


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document of every function beside this one, and of this one."""
    merge = OpenAPIMerge(
        title=contract.TITLE, version=contract.VERSION, description=contract.DESCRIPTION, on_conflict="error"
    )
    for api in _apis():
        schema = json.loads(api.get_openapi_json_schema(title=contract.TITLE, version=contract.VERSION))
        merge.add_schema(contract.described(schema, scope=api.scope))
    return contract.completed(merge.get_openapi_schema())


@cache
def _page() -> str:
    return page.html(document())


def _apis() -> list[Api]:
    """The `app` of every module beside this one."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem != "__init__")
    modules = [importlib.import_module(f"api.{name}") for name in names]
    return [module.app for module in modules if isinstance(getattr(module, "app", None), Api)]


handler = web.handler(app)
