"""Makes docs/errors.md from the service's declarations."""

from __future__ import annotations

from pathlib import Path

from bigupload.service.media.direct_url import Rule
from bigupload.service.problems import Problem

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
_HEAD = """\
# Errors of the media service

The body of every error response is `{"error": {"code", "message", "field"?}}`:

- `code` never changes. Programs should match on it.
- `message` is one line for people.
- `field`, if present, names the field of the request that is wrong, for example `parts[0].size`.

`/openapi.json` lists the codes of each endpoint. The response header `X-Request-Id` is the `id` of the request's line
in the service's log.

| code | status | meaning |
|---|---|---|
"""
_RULES = """
If a URL cannot be used, `POST /v1/media/check` still answers 200: `usable` is false, and `error.code` is one of the
codes below. A post with such a URL is refused with `media_unusable` and the same message.

| code | meaning |
|---|---|
"""


def page() -> str:
    """Return the content of docs/errors.md."""
    problems = sorted(Problem, key=lambda problem: problem.status)  # in the order of the declaration within a status
    table = "".join(f"| `{p.code}` | {p.status} | {p.meaning} |\n" for p in problems)
    rules = "".join(f"| `{rule.code}` | {rule.value} |\n" for rule in Rule)
    return _HEAD + table + _RULES + rules
