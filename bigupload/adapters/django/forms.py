"""A form field whose files go from the browser to the store, by way of a media service. Django gets the proved key.

The browser sends the file by the service's `<big-upload>` element, and the form has its URL. Whoever sends a form can
write any URL into it, so the field asks the service: the upload is the user's own, complete, what it claims to be, and
nobody can replace it. `MediaService` asks it, for upload tokens, too.
"""

# mypy: disable-error-code="misc"
# Django has no types of its own, so its classes are Any.

from __future__ import annotations

import asyncio
import fnmatch
import logging
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from pathlib import Path
from typing import Any, TypeVar

from django import forms
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext_lazy as _

from bigupload import errors
from bigupload.core.retry_policy import Fault
from bigupload.records import dataclass
from bigupload.stores.service_client import ServiceHttp, service_url

LOG = logging.getLogger("bigupload.django")
SETTING = "BIGUPLOAD_MEDIA"
"""The setting that has the fields of `MediaService`, as a dictionary."""
_MOST_URLS = 1000
"""URLs of one field. Each costs a request to the service."""
_LONGEST_URL = 4096


class UploadedKey(str):
    """The key of an upload that the service has checked. It is a text, as a FileField of a model takes it."""

    url: str
    """Its public URL, which works for everyone only if the bucket is public."""
    size: int
    """Bytes."""
    content_type: str

    @classmethod
    def of(cls, key: str, *, url: str, size: int, content_type: str) -> UploadedKey:
        """Return the key of an upload."""
        made = cls(key)
        made.url, made.size, made.content_type = url, size, content_type
        return made


R = TypeVar("R")
_TOKEN_FOR_A_CHECK = 60
"""Seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaService:
    """A media service, and what proves to it for whom this application asks.

    All uploads belong to one owner, and each to an end user of it: nobody can pass off another user's as theirs.

    Raises:
        UsageError: Neither an `api_key` nor a `secret` with an `owner`, or both; or an invalid URL.
    """

    url: str
    """The URL for this application, as in "https://media.example.com"."""
    secret: str | None = field(default=None, repr=False)
    """The last of the service's secrets, by which this application makes tokens without asking."""
    owner: str | None = None
    """Whose all uploads are, with a `secret`: 1 to 63 of `a-z`, `0-9`, `-` and `_`."""
    api_key: str | None = field(default=None, repr=False)
    """An API key, in place of both: all uploads are its owner's."""
    browser_url: str | None = None
    """The URL for browsers, as in "/media/"; None: that of this application."""
    ca_bundle: Path | str | None = None
    """Trust these certificates, and not those of the system."""
    timeout: float = 10.0
    """Seconds that it may take to respond."""

    def __post_init__(self) -> None:
        service_url(self.url)
        if (self.secret is None) == (self.api_key is None) or (self.secret is None) != (self.owner is None):
            raise errors.UsageError("a MediaService has a `secret` and an `owner`, or an `api_key`: give one")

    @property
    def for_browsers(self) -> str:
        """The URL for browsers, with a slash at the end."""
        return (self.browser_url or self.url).rstrip("/") + "/"

    def token(self, user: str | None, *, expires_in: int, **limits: Any) -> str:
        """Return an upload token for a browser.

        Args:
            user: The end user whose uploads they are, by any name of at most 100 bytes.
            expires_in: Seconds for which it is valid, at most 24 hours.
            **limits: `max_size` and any other, as `mint_token` takes them.

        Raises:
            UsageError: There is no user, or it is "None", which all visitors would share; or the limits can't be.
            StoreError: The service could not be asked.
        """
        if not user or user == str(None):  # as str(request.user.pk) is of a visitor who has not signed in
            raise errors.UsageError(
                "no user: set the field's `user`, as in form.fields['film'].user = str(request.user.pk), and let only "
                "those who are signed in see the form"
            )
        limits = {"user": user} | {name: value for name, value in limits.items() if value}
        if self.secret is not None and self.owner is not None:
            from bigupload.service import mint_token

            return mint_token(self.secret, self.owner, expires_in=expires_in, **limits)
        body: dict[str, Any] = {"expiresIn": expires_in}
        for name, value in limits.items():
            first, *rest = name.split("_")
            body[first + "".join(map(str.capitalize, rest))] = value
        answer = self._call("to make an upload token", "/v1/media/tokens", body, self.api_key)
        return str(answer["token"])

    def check(self, url: str, user: str | None) -> UploadedKey | None:
        """Ask what is at the URL that a form sent.

        Returns:
            Its key; None if it is not one of the user's that was completed, passed all checks and stays as it is.

        Raises:
            UsageError: There is no user.
            StoreError: The service could not be asked.
        """
        token = self.token(user, expires_in=_TOKEN_FOR_A_CHECK)
        answer = self._call("to check an upload", "/v1/media/check", {"url": url}, token)
        key, size, kind = answer.get("key"), answer.get("size"), answer.get("contentType")
        is_good = answer.get("usable") is True and answer.get("url") == url
        if not (is_good and isinstance(key, str) and isinstance(size, int) and isinstance(kind, str)):
            return None
        return UploadedKey.of(key, url=url, size=size, content_type=kind)

    def _call(self, what: str, path: str, body: Mapping[str, Any], credential: str | None) -> dict[str, Any]:
        async def call() -> dict[str, Any]:
            http = ServiceHttp(url=self.url, api_key=credential, ca_bundle=self._trusted)
            try:
                return await http.call(what, "POST", path, body=body, within=self.timeout)
            except Fault as fault:
                raise fault.public() from fault
            finally:
                await http.aclose()

        return _run(call())

    @property
    def _trusted(self) -> Path | None:
        return None if self.ca_bundle is None else Path(self.ca_bundle)


def _run(work: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine to its end, also in a thread whose event loop is running, as in an `async def` view."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


class UploadInput(forms.Widget):
    """The `<big-upload>` element: choose or drop files, and see them uploaded."""

    needs_multipart_form = False

    def __init__(
        self,
        attrs: Mapping[str, Any] | None = None,
        *,
        service: MediaService | None = None,
        user: str | None = None,
        accept: Sequence[str] = (),
        max_size: int | None = None,
        multiple: bool = False,
        uploads: int = 20,
        expires_in: int = 12 * 3600,
    ) -> None:
        """Make it; the service is asked when it is shown.

        Args:
            attrs: Attributes of the element.
            service: The media service; None: that of the setting BIGUPLOAD_MEDIA.
            user: The end user whose uploads they are, by any name of at most 100 bytes; set it for each form.
            accept: Content types, also as "video/*"; none: all that the service accepts.
            max_size: Bytes of the largest file; None: as the service allows.
            multiple: Whether several files may be chosen.
            uploads: How many uploads one page may begin, those that are cancelled included.
            expires_in: Seconds for which a page may upload, at most 24 hours.
        """
        super().__init__(attrs)
        self.given_service = service
        self.user = user
        self.accept = tuple(accept)
        self.max_size = max_size
        self.multiple = multiple
        self.uploads = uploads
        self.expires_in = expires_in

    @property
    def service(self) -> MediaService:
        """The media service. Raises ImproperlyConfigured if no setting has it."""
        if self.given_service is not None:
            return self.given_service
        found = getattr(settings, SETTING, None)
        if not isinstance(found, Mapping):
            raise ImproperlyConfigured(f'set {SETTING} = {{"url": "https://…", "api_key": …}}, or give `service`')
        try:
            return MediaService(**found)
        except (TypeError, errors.UsageError) as e:
            raise ImproperlyConfigured(f"{SETTING}: {e}") from None

    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[str] | str | None:
        """Return the URLs that a form sent; None if it sent none. Of a single file, the one that was sent last."""
        sent = data.getlist(name) if hasattr(data, "getlist") else data.get(name)
        urls = [url for url in ([sent] if isinstance(sent, str) else sent or ()) if url]
        if not urls:
            return None
        return urls if self.multiple else urls[-1]

    def use_required_attribute(self, initial: Any) -> bool:
        """Return whether the browser asks for a file. It does not where there is one."""
        return bool(super().use_required_attribute(initial)) and not initial

    def render(self, name: str, value: Any, attrs: Mapping[str, Any] | None = None, renderer: Any = None) -> str:
        """Return the element, with a token of its own, and what a form that is shown again has uploaded."""
        given = self.build_attrs(self.attrs, attrs)
        sent = [url for url in ([value] if isinstance(value, str) else value or ()) if _is_url(url)]
        if sent:
            given.pop("required", None)
        given |= {"name": name, "accept": ",".join(self.accept) or None, "multiple": self.multiple or None}
        endpoint = self.service.for_browsers
        try:
            token = self.service.token(
                self.user,
                expires_in=self.expires_in,
                uploads=self.uploads,
                max_size=self.max_size,
                content_types=list(self.accept),
            )
        except errors.StoreError as e:
            LOG.warning("no upload token: %s", e)
            return str(format_html("<p>{}</p>", _("Files can't be uploaded now. Load the page again in a while.")))
        html: str = format_html(
            '{}<big-upload endpoint="{}" token="{}"{}></big-upload><script type="module" src="{}"></script>',
            _again(name, sent),
            endpoint,
            token,
            _attributes(given),
            f"{endpoint}v1/client/element.js",
        )
        return html


def _is_url(value: Any) -> bool:
    """Whether a value is one that a form sent: the value of a model is a key."""
    return isinstance(value, str) and value.startswith(("https://", "http://"))


def _again(name: str, urls: Sequence[str]) -> str:
    """Return the HTML that keeps uploads in a form that is shown again, because another of its fields is wrong."""
    if not urls:
        return ""
    kept = format_html_join("", '<input type="hidden" name="{}" value="{}">', ((name, url) for url in urls))
    html: str = format_html("{}<p>{}</p>", kept, _("Uploaded before. Choose a file to replace it."))
    return html


def _attributes(given: Mapping[str, Any]) -> str:
    shown = {name: value for name, value in given.items() if value is not None and value is not False}
    pieces = [(f" {name}", "" if value is True else format_html('="{}"', value)) for name, value in shown.items()]
    html: str = format_html_join("", "{}{}", pieces)
    return html


class UploadField(forms.FileField):
    """A file that the browser uploads to a media service. Its value is an `UploadedKey`, or a list of them.

    ::

        class FilmForm(forms.Form):
            film = UploadField(accept=["video/*"], max_size=5_000_000_000)

        form = FilmForm(request.POST or None)  # in a view with login_required
        form.fields["film"].user = str(request.user.pk)
    """

    widget = UploadInput
    default_error_messages = {  # noqa: RUF012 - as Django has it
        "foreign": _("This is not a file that you have uploaded. Choose it again."),
        "unchecked": _("The file could not be checked. Send the form again in a moment."),
        "type": _("A file of this type is not accepted here."),
        "size": _("The file is too large."),
        "many": _("These are too many files."),
    }

    def __init__(
        self,
        *,
        service: MediaService | None = None,
        user: str | None = None,
        accept: Sequence[str] = (),
        max_size: int | None = None,
        multiple: bool = False,
        uploads: int = 20,
        expires_in: int = 12 * 3600,
        **kwargs: Any,
    ) -> None:
        """Make it; nothing is connected yet. The arguments are those of `UploadInput`, and of Django's FileField."""
        kwargs.setdefault(
            "widget",
            UploadInput(
                service=service,
                user=user,
                accept=accept,
                max_size=max_size,
                multiple=multiple,
                uploads=uploads,
                expires_in=expires_in,
            ),
        )
        super().__init__(**kwargs)

    @property
    def _input(self) -> UploadInput:
        found: Any = self.widget  # the class's is a class
        made: UploadInput = found
        return made

    @property
    def user(self) -> str | None:
        """The end user whose uploads they are. Set it for each form, by the user who is signed in."""
        return self._input.user

    @user.setter
    def user(self, user: str | None) -> None:
        self._input.user = user

    def bound_data(self, data: Any, initial: Any) -> Any:
        """Return the value of a form that is shown again: unlike a file, an upload need not be chosen once more."""
        return data or initial

    def to_python(self, data: Any) -> UploadedKey | list[UploadedKey] | None:
        """Return the keys of the uploads that a form names by their URLs.

        Raises:
            ValidationError: One is not the user's own, not of this field, or could not be checked.
        """
        if data in self.empty_values:
            return None
        if isinstance(data, str):
            return self._checked(data)
        if len(data) > _MOST_URLS:
            raise ValidationError(self.error_messages["many"], code="many")
        return [self._checked(url) for url in dict.fromkeys(data)]

    def _checked(self, url: str) -> UploadedKey:
        if not _is_url(url) or len(url) > _LONGEST_URL:
            raise ValidationError(self.error_messages["foreign"], code="foreign")
        try:
            found = self._input.service.check(url, self.user)
        except errors.StoreError as e:
            LOG.warning("an upload could not be checked: %s", e)
            raise ValidationError(self.error_messages["unchecked"], code="unchecked") from e
        if found is None:
            raise ValidationError(self.error_messages["foreign"], code="foreign")
        accept, max_size = self._input.accept, self._input.max_size
        if accept and not any(fnmatch.fnmatchcase(found.content_type.lower(), each.lower()) for each in accept):
            raise ValidationError(self.error_messages["type"], code="type")
        if max_size is not None and found.size > max_size:
            raise ValidationError(self.error_messages["size"], code="size")
        return found
