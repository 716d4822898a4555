"""Translates what boto3 raises while it finds credentials and addresses. What a store answers is `http/http_errors`'s.

Of botocore's own texts only reasons and hosts are passed on: they can hold secrets. botocore is imported only when
there is an exception to translate.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from bigupload import errors
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.http.http_errors import out_of_descriptors
from bigupload.stores.s3.aws_files import no_profile
from bigupload.support.descriptors import OUT_OF_DESCRIPTORS
from bigupload.units import one_line

R = TypeVar("R")


def error_of_aws(e: Exception) -> Exception:
    """Translate an exception of boto3, botocore or the operating system.

    Returns:
        A Fault, if a retry may help; else a public error. An exception of another kind is returned as it is.
    """
    if isinstance(e, errors.BigUploadError | Fault):
        return e
    if out_of_descriptors(e):  # the import of botocore needs descriptors, too
        return Fault(FaultKind.BROKEN, OUT_OF_DESCRIPTORS)
    import botocore.exceptions as b
    from botocore.parsers import ResponseParserError

    if isinstance(e, b.ProfileNotFound):
        return no_profile(one_line(str(e.kwargs.get("profile"))))
    if isinstance(e, b.ParamValidationError | b.InvalidRegionError | b.ConfigParseError | b.UnknownEndpointError):
        return errors.UsageError(one_line(str(e)))
    if isinstance(e, b.HTTPClientError | b.ConnectionError):
        return _not_now(FaultKind.UNREACHABLE, f"{_host(e)} does not respond ({type(e).__name__})")
    if isinstance(e, ResponseParserError):  # no BotoCoreError: the page of a proxy, in place of a service's response
        return _not_now(FaultKind.BROKEN, "their service's response can't be read, a proxy may have sent it")
    if isinstance(e, b.ClientError):
        error = e.response.get("Error", {})
        said = one_line(f"{error.get('Code', '')} ({error.get('Message', '')})")
        return errors.CredentialsError(f"the AWS credentials can't be used: {e.operation_name} was refused: {said}")
    if isinstance(e, b.NoCredentialsError | b.PartialCredentialsError):
        return errors.CredentialsError(
            f"incomplete AWS credentials: {one_line(str(e))}. Set both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "or name a `profile`"
        )
    if isinstance(e, b.CredentialRetrievalError):
        source = str(e.kwargs.get("provider")).replace("custom-process", "the credential_process of the profile")
        said = one_line(str(e.kwargs.get("error_msg") or "").strip()) or "it gives no reason"
        return errors.CredentialsError(f"no AWS credentials: {one_line(source)} failed: {said}")
    if isinstance(e, b.BotoCoreError):
        return errors.CredentialsError(f"the AWS credentials can't be used: {one_line(str(e))}")
    if isinstance(e, OSError):
        what = f" ({one_line(str(e.filename))})" if e.filename else ""
        return errors.UsageError(f"the AWS configuration can't be used: {e.strerror or type(e).__name__}{what}")
    if type(e) is RuntimeError:  # so botocore says that what it has just fetched has ended
        return errors.CredentialsError("the AWS credentials have expired, also those that their source gave just now")
    if isinstance(e, ValueError | LookupError | TypeError | AttributeError | RuntimeError | ArithmeticError):
        # botocore raises these for what another program or service sends in place of credentials.
        return errors.CredentialsError(
            "the AWS credentials can't be used: what their source gave can't be read "
            f"({type(e).__name__}): check the credential_process, or the service, that the profile names"
        )
    return e


def translated(question: Callable[[], R]) -> R:
    """Return what `question` returns, or raise its exception as `error_of_aws` translates it.

    botocore's text may hold a secret, so its exception is not the context of the other.
    """
    try:
        return question()
    except Exception as e:
        error = error_of_aws(e)
    raise error


def no_answer(seconds: float, profile: str | None) -> errors.CredentialsError:
    """Make the error for a source of credentials that hangs."""
    of = f"the profile {profile}" if profile else "the AWS configuration"
    return errors.CredentialsError(
        f"no AWS credentials within {seconds:.0f} s: check the credential_process, or the service, that {of} names"
    )


def _not_now(kind: FaultKind, why: str) -> Fault:
    return Fault(kind, f"the AWS credentials can't be fetched: {why}", error=errors.CredentialsError)


def _host(e: Any) -> str:
    """Return the "host:port" of a URL that one of botocore's exceptions keeps. The rest of the URL may be secret."""
    for name in ("endpoint_url", "proxy_url"):
        with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):
            url = urlsplit(e.kwargs[name])
            host = f"[{url.hostname}]" if url.hostname and ":" in url.hostname else url.hostname
            if host:
                return f"{host}{f':{url.port}' if url.port else ''}"
    return "their service"
