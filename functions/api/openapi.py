"""GET /v1/openapi.json: one document over all functions of the HTTP API. Open."""

import importlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.merge import OpenAPIMerge

from shared.core import web
from shared.core.web import Api

app = web.Api(scope=web.OPEN)

TITLE = "Atelier"
VERSION = "1.0.0"
DESCRIPTION = "The serverless back end of an AI media studio: generations, credits and the files that come of them."
SECURITY_SCHEMES = {"jwt": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}


@app.get("/v1/openapi.json")
def get_openapi() -> Response[str]:
    return Response(200, content_type="application/json", body=_document(), headers={"cache-control": "max-age=300"})


@cache
def _document() -> str:
    merge = OpenAPIMerge(title=TITLE, version=VERSION, description=DESCRIPTION, on_conflict="error")
    for api in _apis():
        merge.add_schema(_described(api))
    document = merge.get_openapi_schema()
    document.setdefault("components", {})["securitySchemes"] = SECURITY_SCHEMES
    return json.dumps(document, separators=(",", ":"))


def _apis() -> list[Api]:
    """The `app` of every module beside this one."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem != "__init__")
    modules = [importlib.import_module(f"api.{name}") for name in names]
    return [module.app for module in modules if isinstance(getattr(module, "app", None), Api)]


def _described(api: Api) -> dict[str, Any]:
    """The schema of one function, each operation with what it needs of the caller."""
    schema: dict[str, Any] = json.loads(api.get_openapi_json_schema(title=TITLE, version=VERSION))
    for operations in schema.get("paths", {}).values():
        for operation in operations.values():
            operation["security"] = [] if api.scope is web.OPEN else [{"jwt": [api.scope]}]
            operation.setdefault("responses", {}).setdefault("default", web.PROBLEM_RESPONSE)
            if "422" in operation["responses"]:
                operation["responses"]["422"] = web.PROBLEM_RESPONSE
    return schema


handler = web.handler(app)
