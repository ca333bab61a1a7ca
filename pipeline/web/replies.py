"""Answers -> HTTP: compact JSON with an ETag, so that what has not changed is not sent again."""

import hashlib
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pipeline.web.answers import Answer, Refusal

REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"model": Refusal, "description": "a token or a proxy's header is missing"},
    404: {"model": Refusal, "description": "there is no such series, or nothing that fits"},
    421: {"model": Refusal, "description": "the server does not go by that name"},
    422: {"model": Refusal, "description": "a parameter that is unknown, or out of its limits"},
    503: {"model": Refusal, "description": "the database is away, too slow, or too busy: see Retry-After"},
}


def reply(request: Request, answer: Answer, *, seconds: int = 0) -> Response:
    """Write an answer; a client may use its copy for `seconds`, and must ask after that whether it still holds."""
    body = answer.model_dump_json().encode()
    etag = f'"{hashlib.sha256(body).hexdigest()[:24]}"'
    headers = {"ETag": etag, "Cache-Control": f"private, max-age={seconds}" if seconds else "private, no-cache"}
    held = {each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")}
    if etag in held:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)
