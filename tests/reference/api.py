"""docs/reference/api.md: routes, parameters and documents, from the OpenAPI document that the page serves."""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.database import upgrade
from tests.page_world import Visitor
from tests.reference.tables import code, page, sentence, table

INTRODUCTION = """\
`tidecast serve` answers these routes; it only reads. `/openapi.json` is the same as a document for programs.
A parameter that is not listed is refused. A time is ISO 8601 with an offset or a number since 1970; answers are in UTC,
with `Z`. Every answer has an `ETag`. A list answers `next`: what to ask for the next page with.
"""
Schema = Mapping[str, Any]


def write() -> str:
    """Write the page."""
    document = read_document()
    schemas = document["components"]["schemas"]
    parts = [INTRODUCTION]
    tag = ""
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            own = route["tags"][0]
            parts += [f"## {own.capitalize()}"] if own != tag else []
            tag = own
            parts += _route(f"{method.upper()} {path}", route)
    parts += ["## Refusals", "The body of every error is a [`Refusal`](#refusal).", _refusals(document)]
    parts += ["## Documents"]
    for name in sorted(schemas):
        parts += _document(name, schemas[name])
    return page("API", *parts)


def read_document() -> Schema:
    """Ask an application over an empty database for its OpenAPI document."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'tidecast.db'}"
        upgrade(url)
        with Visitor(url) as visitor:
            document: Schema = visitor.ask("/openapi.json").json()
    return document


def _route(name: str, route: Schema) -> Iterator[str]:
    yield f"### {name}"
    yield route["description"]
    rows = [
        (code(each["name"]), _given(each["schema"]), "required" if each["required"] else _default(each["schema"]))
        for each in route.get("parameters", [])
    ]
    yield table(("parameter", "type", "default"), rows)
    answer = route["responses"]["200"].get("content", {})
    for media, content in answer.items():
        kind = _type(content["schema"]) if content.get("schema") else ""
        yield f"Answers {kind}." if kind and media == "application/json" else f"Answers {code(media)}."


def _refusals(document: Schema) -> str:
    found = {
        status: answer["description"]
        for methods in document["paths"].values()
        for route in methods.values()
        for status, answer in route["responses"].items()
        if answer.get("content", {}).get("application/json", {}).get("schema", {}).get("$ref", "").endswith("/Refusal")
    }
    return table(("status", "when"), [(status, sentence(found[status])) for status in sorted(found)])


def _document(name: str, schema: Schema) -> Iterator[str]:
    yield f"### {name}"
    yield sentence(schema.get("description", ""))
    rows = [(code(field), _type(each)) for field, each in schema.get("properties", {}).items()]
    yield table(("field", "type"), rows)


def _given(schema: Schema) -> str:
    """Say what a parameter may be; one that may be left away cannot be null."""
    return _type({"anyOf": [each for each in schema.get("anyOf", [schema]) if each.get("type") != "null"]})


def _type(schema: Schema) -> str:
    """Say the type and the limits of a value in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[`{name}`](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(code(str(each)) for each in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    limits = {
        "minimum": "{} or more",
        "maximum": "{} at most",
        "minLength": "not empty",
        "maxLength": "{} characters at most",
    }
    said = [
        text.format(schema[limit]) for limit, text in limits.items() if schema.get(limit) not in (None, 0, 2**31 - 1)
    ]
    return ", ".join([_word(schema), *said])


def _word(schema: Schema) -> str:
    words = {"integer": "whole number", "string": "text", "boolean": "`true` or `false`", "null": "`null`"}
    formats = {"date-time": "time", "date": "date"}
    return formats.get(schema.get("format", "")) or words.get(schema.get("type", ""), schema.get("type", "any"))


def _default(schema: Schema) -> str:
    return code(str(schema["default"])) if schema.get("default") is not None else ""
