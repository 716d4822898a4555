"""Ask a URL: a signed POST of JSON; its status, and a reason in its body, are the answer. Knows nothing of uploads."""

from __future__ import annotations

import json
import secrets
import time

import aiohttp

from bigupload.service.hooks.questions import HookFailed, Question, as_line
from bigupload.service.webhooks.sending import why_no_answer
from bigupload.service.webhooks.signing import Signer

_MOST_BYTES = 64 * 1024
"""Of the answer that are read."""
_NO_REFUSALS = (408, 425, 429)
"""Statuses that ask to come again, and say nothing about the file."""


async def ask_url(
    http: aiohttp.ClientSession, url: str, question: Question, *, signer: Signer, within: float
) -> str | None:
    """POST a question to a URL. Redirects are not followed.

    Args:
        http: The connections.
        url: The hook's URL.
        question: The body.
        signer: Signs the request, as webhooks are signed.
        within: The time limit, in seconds.

    Returns:
        None for a status 2xx. The reason for a status 4xx whose body is `{"reason": "…"}`: without it, a 404 of a
        wrong URL would refuse every file.

    Raises:
        HookFailed: Every other answer, or none in time.
    """
    body = as_line(question)
    headers = signer.headers(f"hook_{secrets.token_hex(16)}", body, time.time())
    try:
        async with http.post(
            url, data=body, headers=headers, allow_redirects=False, timeout=aiohttp.ClientTimeout(total=within)
        ) as response:
            status, answer = response.status, bytearray()
            async for chunk in response.content.iter_any():
                answer += chunk[: _MOST_BYTES - len(answer)]
    except TimeoutError:
        raise HookFailed(f"the URL did not answer within {within:g} s") from None
    except (aiohttp.ClientError, OSError) as e:  # its text can hold the URL, which may be a secret
        raise HookFailed(f"the URL did not answer: {why_no_answer(e)}") from None
    if 200 <= status < 300:
        return None
    reason = _reason(bytes(answer))
    if 400 <= status < 500 and status not in _NO_REFUSALS and reason is not None:
        return reason
    raise HookFailed(f"the URL answered with {status}" + ("" if reason else " and no reason"))


def _reason(body: bytes) -> str | None:
    try:
        reason = json.loads(body)["reason"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return reason if isinstance(reason, str) and reason.strip() else None
