"""docs/errors.md, made of what the service declares: `python -m tests.tools.errors_page > docs/errors.md`."""

from __future__ import annotations

from bigupload.service.direct_url import Rule
from bigupload.service.problems import Problem

_HEAD = """\
# Errors of the media service

Whatever is refused is answered with `{"error": {"code", "message", "field"?}}`. Programs go by `code`, which never
changes; `message` is one line for people, and `field` names what is meant in the request, like `parts[0].size`. Which
endpoint knows which codes is in `/openapi.json`. The header `X-Request-Id` is the line's `id` in the service's log.

| code | status | meaning |
|---|---|---|
"""
_RULES = """
`POST /v1/media/check` answers 200 also where a URL can't be used. Then `usable` is false, and `error.code` is one of
these; a post with such a URL is refused as `media_unusable`, with the same message.

| code | meaning |
|---|---|
"""


def page() -> str:
    """The whole file."""
    problems = sorted(Problem, key=lambda problem: problem.status)  # in the order of the declaration within a status
    table = "".join(f"| `{p.code}` | {p.status} | {p.meaning} |\n" for p in problems)
    rules = "".join(f"| `{rule.code}` | {rule.value} |\n" for rule in Rule)
    return _HEAD + table + _RULES + rules


if __name__ == "__main__":
    print(page(), end="")
