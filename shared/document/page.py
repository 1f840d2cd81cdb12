"""The OpenAPI document as one page for people: plain HTML, no script, nothing loaded from anywhere."""

import json
import re
from html import escape
from typing import Any

Json = dict[str, Any]

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --link: light-dark(#0b57d0, #8ab4f8);
  --get: #1a7f4b; --post: #1f5fbf; --put: #9a5b00; --delete: #b3261e }
* { box-sizing: border-box }
body { margin: 0; font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere }
header, nav, main { max-width: 60rem; margin: 0 auto; padding: 0 1rem }
h1 { margin: 1.5rem 0 .5rem } h2 { margin: 2.5rem 0 .5rem } h3 { margin: 0 } h4 { margin: 1rem 0 .25rem }
a { color: var(--link) }
nav ul { list-style: none; margin: 0 0 1rem; padding: 0; columns: 20rem }
nav li { break-inside: avoid }
code, pre { font: .875em/1.45 ui-monospace, monospace }
pre { background: var(--soft); border-radius: 6px; padding: .75rem; overflow-x: auto; overflow-wrap: normal }
section { border: 1px solid var(--line); border-radius: 8px; padding: 1rem; margin: 1rem 0 }
.method { color: #fff; border-radius: 4px; padding: .1em .45em; font-weight: 700 }
.get { background: var(--get) } .post { background: var(--post) } .put { background: var(--put) }
.delete { background: var(--delete) }
dl { margin: 0 } dt { margin-top: .5rem } dd { margin: 0 0 0 1rem }
.type { opacity: .75 }
summary { cursor: pointer; padding: .25rem 0 }
p { margin: .5rem 0 }
"""


def html(document: Json) -> str:
    """The whole page."""
    schemas = document["components"]["schemas"]
    by_tag: dict[str, list[tuple[str, str, Json]]] = {tag["name"]: [] for tag in document["tags"]}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            by_tag[operation["tags"][0]].append((method, path, operation))
    contents = "".join(
        f"<p><b>{escape(tag)}</b></p><ul>{''.join(_entry(operation) for _, _, operation in found)}</ul>"
        for tag, found in by_tag.items()
    )
    sections = "".join(
        f"<h2>{escape(tag)}</h2>" + "".join(_operation(document, *one) for one in found)
        for tag, found in by_tag.items()
    )
    shapes = "".join(_schema(name, schema) for name, schema in schemas.items())
    info = document["info"]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(info['title'])} API</title><style>{STYLE}</style></head><body>"
        f"<header><h1>{escape(info['title'])} API <small class=type>{escape(info['version'])}</small></h1>"
        f'{_text(info["description"])}<p><a href="openapi.json">openapi.json</a> (OpenAPI {document["openapi"]})</p>'
        f"</header><nav aria-label=Operations>{contents}</nav>"
        f"<main>{sections}<h2>Schemas</h2>{shapes}</main></body></html>"
    )


def _text(markdown: str) -> str:
    """Paragraphs and `code`; the document uses no more of Markdown."""
    paragraphs = [re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(part)) for part in markdown.split("\n\n")]
    return "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)


def _entry(operation: Json) -> str:
    return f'<li><a href="#{operation["operationId"]}">{escape(operation["summary"])}</a></li>'


def _operation(document: Json, method: str, path: str, operation: Json) -> str:
    needed = operation["security"]
    scope = f"Needs the scope <code>{escape(next(iter(needed[0].values()))[0])}</code>." if needed else "Open."
    parts = [
        f'<section id="{operation["operationId"]}"><h3>{escape(operation["summary"])}</h3>',
        f'<p><code class="method {method}">{method.upper()}</code> <code>{escape(path)}</code></p>',
        _text(operation.get("description", "")) if "description" in operation else "",
        f"<p>{scope}</p>",
        _parameters(operation.get("parameters", [])),
        _body(operation["requestBody"]) if "requestBody" in operation else "",
        f"<h4>Answers</h4>{''.join(_answer(document, *one) for one in operation['responses'].items())}</section>",
    ]
    return "".join(parts)


def _parameters(parameters: list[Json]) -> str:
    if not parameters:
        return ""
    items = ""
    for one in parameters:
        schema = {**one["schema"], "description": one.get("description", "")}
        items += _field(one["name"], schema, one.get("required"), one["in"])
    return f"<h4>Parameters</h4><dl>{items}</dl>"


def _body(body: Json) -> str:
    content = body["content"]["application/json"]
    return f"<h4>Body</h4><p>{_type(content['schema'])}</p>{_example('Example', content.get('example'))}"


def _answer(document: Json, status: str, answer: Json) -> str:
    if "$ref" in answer:
        answer = document["components"]["responses"][answer["$ref"].rpartition("/")[2]]
    told = [f"<code>{status}</code> {_text(answer['description']).removeprefix('<p>').removesuffix('</p>')}"]
    examples = ""
    for media_type, content in answer.get("content", {}).items():
        told.append(f'<span class="type">{escape(media_type)}</span> {_type(content["schema"])}')
        examples += _example(f"Example of {status}", content.get("example"))
        for code, example in content.get("examples", {}).items():
            examples += _example(code, example["value"])
    if int(status) < 400:
        return f"<p>{' · '.join(told)}</p>{examples}"
    return f"<details><summary>{told[0]}</summary>{examples}</details>"


def _example(title: str, value: Any) -> str:
    if value is None:
        return ""
    text = escape(json.dumps(value, indent=2, ensure_ascii=False), quote=False)
    return f"<details><summary>{escape(title)}</summary><pre><code>{text}</code></pre></details>"


def _schema(name: str, schema: Json) -> str:
    required = schema.get("required", [])
    fields = "".join(_field(field, told, field in required) for field, told in schema.get("properties", {}).items())
    about = _text(schema.get("description", ""))
    return f'<section id="schema-{name}"><h3>{escape(name)}</h3>{about}<dl>{fields}</dl></section>'


def _field(name: str, schema: Json, required: bool | None, place: str = "") -> str:
    words = [_type(schema), *_limits(schema), *([f"in {place}"] if place else []), *(["required"] if required else [])]
    about = _text(schema["description"]) if schema.get("description") else ""
    return f'<dt><code>{escape(name)}</code> <span class="type">{", ".join(words)}</span></dt><dd>{about}</dd>'


def _type(schema: Json) -> str:
    """What a value is, in words and links."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#schema-{name}">{name}</a>'
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return " or ".join(", ".join([_type(one), *_limits(one)]) for one in schema[choice])
    if "enum" in schema:
        return " | ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    if "const" in schema:
        return f"<code>{escape(str(schema['const']))}</code>"
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if isinstance(schema.get("additionalProperties"), dict) and "properties" not in schema:
        return f"object of {_type(schema['additionalProperties'])}"
    name = escape(str(schema.get("type", "any value")))
    return f"{name} ({escape(schema['format'])})" if "format" in schema else name


LIMITS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {}",
    "maxItems": "at most {}",
    "maxProperties": "at most {} pairs",
    "pattern": "like {}",
    "default": "default {}",
}


def _limits(schema: Json) -> list[str]:
    return [
        words.format(f"<code>{escape(json.dumps(schema[name], ensure_ascii=False))}</code>")
        for name, words in LIMITS.items()
        if name in schema and schema[name] is not None
    ]
