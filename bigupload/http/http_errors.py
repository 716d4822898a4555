"""Translates failures of connections, and responses that refuse, into `Fault`s: the one place for a PUT and for a call.

A message holds the host and port, the operating system's reason, and S3's code and message. It never holds a URL: a
presigned URL is a bearer secret.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from bigupload import errors
from bigupload.core.part_plan import MIB
from bigupload.core.retry_policy import Fault, FaultKind, classify
from bigupload.http.origins import Proxy, origin_of
from bigupload.s3_parameters import dot_segment
from bigupload.support.files import OUT_OF_DESCRIPTORS, is_out_of_descriptors
from bigupload.units import format_size, format_span, one_line

MAX_ERROR_BODY = 64 * 1024
"""Bytes of an error response that are read."""
CLOCK_TOLERANCE = 600.0
"""Seconds. With a clock that is further off, a store refuses presigned URLs as expired or not yet valid."""
_SEVERAL = "Multiple exceptions"
_OF_ASYNCIO = ("Connect call failed", _SEVERAL)
_ERRNO = r"\[Errno (\d+)\]"
PROXY_AUTH_REQUIRED = 407
_TOO_LARGE = 413
_DENIED = "AccessDenied"
_ENTITY_TOO_LARGE = "EntityTooLarge"
_IDENTIFIER = r"[A-Za-z0-9]+(?:[-:.][A-Za-z0-9]+)+"
"""Such as x-amz-tagging or s3:PutObjectTagging: a word with a hyphen or a colon in it."""
_OF_KEYS = frozenset({
    (400, None), (400, "InvalidRequest"), (400, "InvalidURI"), (400, "XMinioInvalidObjectName"),
    (403, "SignatureDoesNotMatch"),
})  # fmt: skip
"""Refusals that may be of a key with "..": by a store that takes none, and where a proxy has resolved it."""
_LONGEST_TEXT = 2000
"""Bytes of an element of an error, with its end tag. A longer one is ignored."""
_SMALLER_PARTS = (8 * MIB, 5 * MIB)
"""Sizes of parts to try where a larger one was refused. S3 takes no part below 5 MiB, except for the last one."""
_NO_TLS = "WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|HTTP_REQUEST"
"""OpenSSL's names for a response that is not TLS."""

_OLD_TLS = "UNSUPPORTED_PROTOCOL|ALERT_PROTOCOL_VERSION"
"""OpenSSL's names for a peer without a common version."""

_NO_BUCKET = frozenset({"NoSuchBucket", "InvalidBucketName"})
_WRONG_REGION = frozenset({"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"})
"""S3's codes for a request that was signed for another region than the bucket's."""

_SECRETS = r"(?i)(\?)[^\s\"'<>]*=[^\s\"'<>]*|\b((?:X-Amz-)?(?:Signature|Credential|Security-Token)=)[^\s\"'<>,&]+"
"""A URL's query, and what signs a request."""

NAME_RULES = "3 to 63 lower-case letters, digits, dots and hyphens"
_BUCKET = re.compile(r"(?!.*\.\.)(?!\d+(\.\d+){3}$)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def is_valid_name(bucket: str) -> bool:
    """Whether S3 lets a new bucket have this name. Buckets of other stores, and old ones of AWS, may have others.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
    """
    return bucket.startswith("arn:") or _BUCKET.fullmatch(bucket) is not None


# -- connections


def fault_of_socket(e: Exception, where: str, *, may_expect_tls: bool = False) -> Fault:
    """Translate a failed exchange over a connection to `where`, a "host:port" for the message.

    `may_expect_tls`: it was the first one on a connection without TLS, which some servers just close.
    """
    if (fault := _fault_of_any(e, where)) is not None:
        return fault
    if isinstance(e, TimeoutError):
        return Fault(FaultKind.STALLED, f"no response from {where} in time")
    reason = getattr(e, "strerror", None) or type(e).__name__
    advice = ""
    if may_expect_tls and isinstance(e, ConnectionResetError | ConnectionAbortedError | BrokenPipeError):
        advice = ": if it expects TLS, name it by https://"
    return Fault(FaultKind.BROKEN, f"the connection to {where} broke ({reason}){advice}")


def fault_of_connecting(e: OSError, where: str, *, proxy: bool = False, tls: bool = False) -> Fault:
    """Translate a failure to connect to `where`, a "host:port" for the message.

    Args:
        e: The failure.
        where: The host and port.
        proxy: Whether that is the user's proxy.
        tls: Whether TLS is spoken to it, so that a connection may also end during the handshake.
    """
    e = _of_several(e) or e
    if (fault := _fault_of_any(e, where)) is not None:
        return fault
    if isinstance(e, ssl.SSLError):
        return Fault(FaultKind.FINAL, _why_no_tls(e, where), error=errors.StoreRefused)
    if proxy:
        reason = "timed out" if isinstance(e, TimeoutError) else _words(e)
        return Fault(FaultKind.UNREACHABLE, f"can't connect to the proxy {where}: {reason}: check http(s)_proxy")
    return Fault(FaultKind.UNREACHABLE, _why_unreachable(e, where, tls=tls))


def _why_unreachable(e: OSError, where: str, *, tls: bool) -> str:
    """Return the reason for a failed connection, and advice: the address may be wrong."""
    inner = next((each for each in _chain(e) if isinstance(each, OSError) and each.errno), None)
    if isinstance(inner, socket.gaierror):
        return f"{where} has no address: check its name and the network"
    if isinstance(inner, ConnectionRefusedError):
        return f"{where} refuses the connection: check that it runs, its address and its port"
    if tls and isinstance(inner or e, ConnectionError):
        does = "resets" if isinstance(inner, ConnectionResetError) else "closes"
        return (
            f"{where} takes the connection and {does} it during the TLS handshake: check that the store runs, that "
            "this port speaks TLS, and that no firewall or load balancer in between refuses it"
        )
    if inner is None or isinstance(inner, TimeoutError):
        return f"{where} does not answer: check its address and the network"
    return f"can't connect to {where} ({_words(inner)}): check its address and the network"


def _of_several(e: OSError) -> OSError | None:
    """Return the most telling error, if several addresses fail in different ways. None: it is one error already.

    aiohappyeyeballs joins such errors as texts. A refusal comes first, since that address was reached.
    """
    numbers = [int(number) for number in re.findall(_ERRNO, str(e))] if str(e).startswith(_SEVERAL) else []
    if not numbers:
        return None
    number = errno.ECONNREFUSED if errno.ECONNREFUSED in numbers else numbers[0]
    return OSError(number, os.strerror(number))


def _why_no_tls(e: ssl.SSLError, where: str) -> str:
    if re.search(_NO_TLS, str(e)):
        return f"{where} speaks no TLS: name it by http://"
    if re.search(_OLD_TLS, str(e)):
        return f"{where} speaks no version of TLS that is safe: it needs TLS 1.2 or later there"
    if not isinstance(e, ssl.SSLCertVerificationError):
        return f"no TLS connection to {where} ({one_line(getattr(e, 'reason', None) or type(e).__name__)})"
    why = one_line(getattr(e, "verify_message", None) or str(e)).rstrip(".")  # an error made in Python has neither
    if "expired" in why:
        return f"the certificate of {where} has expired: renew it there, or set this machine's clock if it is wrong"
    if "not yet valid" in why:
        return f"the certificate of {where} is not yet valid: set this machine's clock if it is wrong"
    if "ostname mismatch" in why or "IP address mismatch" in why:
        return f"the certificate of {where} is for another host ({why}): name it by the host in its certificate"
    return f"the certificate of {where} is not trusted ({why}): its issuer's certificate must be in `ca_bundle`"


def _fault_of_any(e: Exception, where: str) -> Fault | None:
    """Translate what means the same while connecting and later."""
    if tls_connection_lost(e):
        return Fault(FaultKind.BROKEN, f"the TLS connection to {where} was closed")
    return Fault(FaultKind.BROKEN, OUT_OF_DESCRIPTORS) if out_of_descriptors(e) else None


def tls_connection_lost(e: BaseException | None) -> bool:
    """Whether a TLS connection merely ended, during the handshake or later. That is no sign of a wrong certificate."""
    return any(
        isinstance(each, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError)
        or (isinstance(each, ssl.SSLError) and getattr(each, "library", None) == "SYS")  # a reset, as OpenSSL 3 says it
        for each in _chain(e)
    )


def out_of_descriptors(e: BaseException | None) -> bool:
    """Whether an exception, or one inside it, comes from this machine's limit on open files."""
    return any(map(is_out_of_descriptors, _chain(e)))


def _chain(e: BaseException | None) -> Iterator[BaseException]:
    """An exception and those inside it: arguments, causes and contexts."""
    seen: set[int] = set()
    while e is not None and id(e) not in seen:
        seen.add(id(e))
        yield e
        inner = next((each for each in e.args if isinstance(each, BaseException)), None)
        e = inner or e.__cause__ or e.__context__


def _words(e: OSError) -> str:
    """The operating system's words, also in place of asyncio's, which repeat the address."""
    if e.errno and (e.strerror or "").startswith(_OF_ASYNCIO):
        return os.strerror(e.errno)
    return e.strerror or type(e).__name__


# -- responses


def fault_of_response(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    what: str,
    *,
    bucket: str = "",
    region: str | None = None,
    proxy: Proxy | None = None,
    sent: int | None = None,
    url: str = "",
    is_part: bool = True,
) -> Fault:
    """Translate a response that refuses a request, whichever request it was.

    S3's errors are a few flat XML elements, which are found as text: no XML parser reads untrusted bytes here.

    Args:
        status: The HTTP status, not 2xx. 200 for a refusal that S3 puts into a successful response.
        headers: The response's headers, looked up case-insensitively.
        body: The first bytes of the response's body.
        what: What was refused, for the message: "part 3".
        bucket: The bucket's name, if it is known.
        region: The region that the request was signed for, if it is known.
        proxy: The user's proxy, if the response may be its own.
        sent: Bytes of the part or file that was sent, if it was one.
        url: The object's URL, if the request was for one.
        is_part: Whether a part of an upload was sent, whose part size does not change.
    """
    if status == PROXY_AUTH_REQUIRED:
        return fault_of_proxy(status, "the store", proxy)
    code = element(body, "Code")
    if code in _NO_BUCKET:
        return no_bucket(bucket or element(body, "BucketName") or "", status=status, code=code)
    named = headers.get("x-amz-bucket-region")
    is_sent_on = status in (301, 307) or (status == 400 and code is None and region is not None)  # a HEAD's 400
    if code in _WRONG_REGION or (named not in (None, region) and is_sent_on):
        return _wrong_region(named or element(body, "Region"), status, code)
    if status // 100 == 3:
        return _redirect(status, code, headers)
    who = f"the proxy {proxy.url}, or the store behind it," if proxy is not None and code is None else "the store"
    message = f"{who} refused {what}: {status} {code or ''}".rstrip()
    is_late = status // 100 == 2  # S3 may find out late that it can't: it has failed, whatever the code is
    if is_late:
        status = 403 if code == _DENIED else 500
    kind, date = classify(status, code), headers.get("Date")
    words = first_words(headers, body) if code is None else ""
    if kind is FaultKind.SKEWED:
        message = skew_message(date)
    elif (text := element(body, "Message")) and text != code:
        message += f" ({one_line(_without_secrets(text))})"
    elif words:
        message += f" ({words})"
    if status == _TOO_LARGE or code == _ENTITY_TOO_LARGE:
        if code is None:
            message = f"something in front of the store limits request bodies: {message}"
        message += f". {_how_smaller(sent, is_proxy=code is None, is_part=is_part)}"
    segment = dot_segment(urlsplit(url).path) if (status, code) in _OF_KEYS else None
    if segment is not None:
        message += f": the key has the segment {segment!r}, which many stores refuse and proxies change: "
        message += "name an object without it"
    fault = Fault(kind, message, status=status, code=code, retry_after=retry_after(headers.get("Retry-After")))
    fault.is_explained = segment is not None
    fault.named = _named(body, words)
    fault.is_lasting = is_late and code == _DENIED  # the signature was good
    offset = _clock_offset(date) if kind in (FaultKind.REFUSED, FaultKind.SKEWED) else None
    if offset is not None:
        fault.date = time.time() - offset
        if kind is FaultKind.REFUSED and abs(offset) > CLOCK_TOLERANCE:
            fault.is_explained, fault.hint = True, f"{clock_is(offset)}: set it"
    return fault


def _named(body: bytes, words: str) -> frozenset[str]:
    """The headers, codes and actions that an error names: identifiers, which do not differ between stores.

    Args:
        body: The response's body.
        words: Its first words if it is not S3's, but a proxy's.
    """
    found = {element(body, name) or "" for name in ("Code", "Header", "ArgumentName")}
    found.update(re.findall(_IDENTIFIER, element(body, "Message") or words))
    return frozenset(each.lower() for each in found if each)


def no_bucket(bucket: str, *, status: int = 404, code: str | None = None) -> Fault:
    """Make the fault of a bucket that is not there. `bucket`: its name; empty: it is not known."""
    named = f"there is no bucket {one_line(bucket)!r}" if bucket else "there is no such bucket"
    is_possible = not bucket or is_valid_name(bucket)
    advice = "create it, or check the name" if is_possible else f"its name is invalid (S3: {NAME_RULES})"
    message = f"{named} at this store: {advice}"
    return Fault(FaultKind.FINAL, message, status=status, code=code, error=errors.BucketNotFound)


def _wrong_region(region: str | None, status: int, code: str | None) -> Fault:
    region = one_line(region or "") or None
    where = f"in region {region}: use `region='{region}'`" if region else "in another region: name it as `region`"
    message = f"the bucket is {where}"
    return Fault(FaultKind.FINAL, message, status=status, code=code, error=errors.WrongRegion, region=region)


def _redirect(status: int, code: str | None, headers: Mapping[str, str]) -> Fault:
    """A redirect by S3 names a region. Any other comes from something in front of the store, or from no store."""
    try:
        to = urlsplit(headers.get("Location", ""))
        origin = origin_of(f"{to.scheme}://{to.netloc}")  # the rest may be secret
        advised = "use that with `endpoint_url`. If you use it already, it is not an S3 store"
        advice = f"to {one_line(origin.url)}: {advised}"
    except ValueError:
        advice = "elsewhere: check the endpoint"
    message = f"the endpoint redirects {advice}"
    return Fault(FaultKind.FINAL, message, status=status, code=code, error=errors.EndpointRedirects)


def _how_smaller(sent: int | None, *, is_proxy: bool, is_part: bool) -> str:
    """Say what helps against a limit of request bodies: a higher one, or smaller parts where there can be any."""
    limit = "Raise its limit (of nginx: client_max_body_size)" if is_proxy else "Raise the store's limit"
    if sent is None:
        return limit
    smaller = next((size // MIB for size in _SMALLER_PARTS if size < sent), None)
    if smaller is None:
        return f"{limit}, or use an endpoint without it: S3 has no parts below {_SMALLER_PARTS[-1] // MIB} MiB"
    again = " with `resume=False`" if is_part else ""
    return f"{limit}, or send parts of less than {format_size(sent)}: `part_size='{smaller}MiB'`{again}"


def fault_of_stranger(status: int, headers: Mapping[str, str], body: bytes, what: str) -> Fault:
    """Make the fault of a successful response that is not the store's, or not whole: what was done is not known.

    The arguments are those of `fault_of_response`.
    """
    encoding = one_line(headers.get("Content-Encoding", "").strip())[:40]
    if encoding and encoding != "identity":
        why = f"{status} (compressed: {encoding}). A proxy on the way changes responses: let it leave them as they are"
    else:
        words = first_words(headers, body) or "no content"
        why = f"{status} ({words}). A proxy or a login page responds in its place: check the endpoint and the network"
    return Fault(
        FaultKind.BROKEN, f"the response to {what} is not S3's, or was cut off: {why}"
    )  # without a status: the store has not responded


def is_page(body: bytes) -> bool:
    """Return whether a body begins as HTML does: a store responds with XML, or with nothing."""
    return body.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html"))


def first_words(headers: Mapping[str, str], body: bytes) -> str:
    """Describe a body that is not S3's: its type and first words, without possible parts of a URL."""
    kind = one_line(headers.get("Content-Type", "").partition(";")[0].strip())[:40]
    text = body[:4096].decode("latin-1")
    title = re.search(r"<title[^>]{0,100}>([^<]{1,200})", text, re.I)
    text = title[1] if title else re.sub(r"<[^>]*>", " ", text)
    words = [word for word in text.split() if word.isprintable() and not set(word) & set("/?&=%<>{}")]
    said = one_line(" ".join(words)[:60])
    return ": ".join(each for each in (kind, f'"{said}"' if said else "") if each)


def fault_of_proxy(status: int, where: str, proxy: Proxy | None) -> Fault:
    """Translate a proxy's own error response: one that does not come from the store `where`."""
    if status == PROXY_AUTH_REQUIRED:
        is_named = proxy is not None and proxy.authorization is not None
        does = "refuses this user name and password" if is_named else "asks for a user name and password"
        message = (
            f"the proxy {does} (407 Proxy Authentication Required): "
            "set https_proxy (and http_proxy) to http://USER:PASSWORD@HOST:PORT"
        )
        return Fault(FaultKind.FINAL, message)
    message = f"the proxy does not connect to {where}: {status}"
    if status >= 500 or status in (408, 429):
        return Fault(FaultKind.UNREACHABLE, message)
    return Fault(FaultKind.FINAL, f"{message}: allow it there, or add the host to no_proxy")


def element(body: bytes, name: str) -> str | None:
    """Return the text of one of the flat elements of S3's errors; None if it is not there.

    Without a regular expression: one that allows white space around the text takes hours for a hostile body.
    """
    begin, end = f"<{name}>".encode(), f"</{name}>".encode()
    start = body.find(begin) + len(begin)
    stop = body.find(end, start, start + _LONGEST_TEXT)
    text = body[start:stop].strip().decode(errors="replace")
    if start < len(begin) or stop < 0 or not text or "<" in text:
        return None
    if name == "Code" and not re.fullmatch(r"[A-Za-z0-9.]{1,100}", text):
        return None
    if "&" in text:
        import html  # its table of entities is large

        text = html.unescape(text)
    return text


def _without_secrets(text: str) -> str:
    """A store's message without what it quotes of a presigned URL or of a request's signature."""
    return re.sub(_SECRETS, lambda found: f"{found[1] or found[2]}…", text)


def skew_message(date: str | None) -> str:
    """Return the error of this machine's clock, by the Date header of a response."""
    return f"{clock_is(_clock_offset(date))}: set it, then run again"


def clock_is(offset: float | None) -> str:
    """Say by how many seconds this machine's clock is ahead of the store's.

    Rounded to the unit that is shown: a Date has whole seconds, and a clock that is a day off is not 23 hours off.
    """
    if offset is None:
        return "this machine's clock is off"
    span = round(abs(offset))
    for unit, least in ((60, 60), (3600, 3600), (86_400, 172_800)):
        if span >= least:
            span = round(span / unit) * unit
    return f"this machine's clock is {format_span(span)} {'fast' if offset > 0 else 'slow'}"


def retry_after(value: str | None) -> float | None:
    """Read a Retry-After header: seconds or a date. Returns the seconds to wait, or None if it can't be understood.

    https://www.rfc-editor.org/rfc/rfc9110#name-retry-after
    """
    if value is not None and value.isascii() and value.isdigit():
        return float(value[:12])  # a bound, because float() of more digits can be infinite
    ago = _clock_offset(value)
    return None if ago is None else max(0.0, -ago)


def _clock_offset(date: str | None) -> float | None:
    """Seconds by which this machine's clock is ahead of a date in a header; None if that can't be read."""
    import email.utils  # only for those who use it

    try:
        return time.time() - email.utils.parsedate_to_datetime(date or "").timestamp()
    except (ValueError, OverflowError):
        return None
