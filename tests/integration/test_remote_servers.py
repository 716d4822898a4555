"""Web servers as they are: without ranges, versions or lengths, with redirects, and with responses that help nobody."""

from __future__ import annotations

import pytest

import bigupload
from bigupload import errors
from bigupload.testing.certificates import make_certificates
from tests.integration.transport.test_users_proxy import ForwardProxy, proxy_of_the_environment
from tests.tools.web_server import WebFault, WebServer, is_part, web_server

from .remotes import DATA, PARTS, SECRET, SIZE, holds
from .support import BUCKET, PART, World, assert_secretless, content

STREAM = "is read as one stream"


# -- as a stream


@pytest.mark.parametrize(
    "served",
    [
        {"ranges": False},
        {"etag": None},
        {"etag": 'W/"one"'},
        {"etag": "unquoted"},
        {"ranges": False, "etag": None, "end": "chunks"},
    ],
)
@pytest.mark.exhaustive
async def test_what_can_t_be_pinned_is_a_stream(world: World, web: WebServer, url: str, served: dict[str, str]) -> None:
    web.serve("/film.mov", DATA, **served)
    result = await world.upload(url)
    assert holds(world)
    assert (str(result.path), result.guarded_by) == ("film.mov", "checksums")
    assert f"{url.partition('?')[0]} {STREAM}" in world.warnings()
    assert (world.manifest.source.kind, world.manifest.source.pin) == ("stream", None)
    assert SECRET not in world.manifest_path.read_text()


async def test_a_stream_of_a_known_size_has_a_closed_plan(world: World, web: WebServer, url: str) -> None:
    web.serve("/film.mov", DATA, ranges=False)
    await world.upload(url)
    assert world.manifest.first_plan.size == SIZE


@pytest.mark.exhaustive
@pytest.mark.parametrize("end", ["length", "chunks"])
async def test_a_stream_that_is_cut_off_is_no_object(world: World, web: WebServer, url: str, end: str) -> None:
    web.serve("/film.mov", DATA, ranges=False, end=end)
    web.faults.append(WebFault(cut_after=3 * PART + 5))
    with pytest.raises(errors.SourceUnreachable, match="ended before all of its bytes had come") as caught:
        await world.upload(url)
    assert caught.value.exit_code == errors.EXIT_RESUMABLE
    assert_secretless(caught.value, [SECRET])
    assert world.object() is None
    if end == "length":  # of chunks, the size is not known before the end
        web.serve("/film.mov", DATA + b"!", ranges=False)
        with pytest.raises(errors.SourceChanged, match="bytes now and had"):
            await world.upload(url)
        web.serve("/film.mov", DATA, ranges=False)
    result = await world.upload(url)
    assert holds(world)
    assert result.resumed_parts == 3


@pytest.mark.slow
async def test_a_stream_of_other_bytes(world: World, web: WebServer, url: str) -> None:
    web.serve("/film.mov", DATA, ranges=False)
    web.faults.append(WebFault(cut_after=3 * PART + 5))
    with pytest.raises(errors.SourceUnreachable):
        await world.upload(url)
    web.serve("/film.mov", content(SIZE, seed=1), ranges=False)
    with pytest.raises(errors.SourceChanged, match="differs from an earlier run's stream"):
        await world.upload(url)
    assert world.object() is None


async def test_a_response_whose_end_nobody_can_tell(world: World, web: WebServer, url: str) -> None:
    for headers in ({"Transfer-Encoding": "identity"}, {}):
        web.serve("/film.mov", DATA, ranges=False, end="close", headers=headers)
        with pytest.raises(errors.SourceUnsupported, match=r"no end mark.*: give its size as `expected_size`"):
            await world.upload(url)
    with pytest.raises(errors.StreamInterrupted, match="were expected"):
        await world.upload(url, expected_size=SIZE + 1)
    assert world.object() is None
    await world.upload(url, expected_size=SIZE, resume=False)
    assert holds(world)


@pytest.mark.slow
async def test_the_parts_of_a_stream_stay_for_a_server_that_learnt_ranges(
    world: World, web: WebServer, url: str
) -> None:
    file = web.serve("/film.mov", DATA, ranges=False)
    web.faults.append(WebFault(cut_after=3 * PART + 5))
    with pytest.raises(errors.SourceUnreachable):
        await world.upload(url)
    file.ranges = True
    result = await world.upload(url)
    assert holds(world)
    assert (result.resumed_parts, result.guarded_by) == (3, "version")


@pytest.mark.exhaustive
@pytest.mark.parametrize("ranges", [True, False])
async def test_an_empty_file(world: World, web: WebServer, url: str, ranges: bool) -> None:
    web.serve("/film.mov", b"", ranges=ranges)
    with pytest.raises(errors.StreamInterrupted, match=r"is empty.*`allow_empty=True`") as caught:
        await world.upload(url)
    assert caught.value.exit_code == errors.EXIT_FAILED
    await world.upload(url, allow_empty=True)
    assert holds(world, b"")


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, PART, PART + 1])
@pytest.mark.exhaustive
async def test_any_size(world: World, web: WebServer, url: str, size: int) -> None:
    web.serve("/film.mov", DATA[:size])
    await world.upload(url)
    assert holds(world, DATA[:size])


@pytest.mark.slow
async def test_a_size_that_is_expected(world: World, web: WebServer, url: str) -> None:
    for ranges in (True, False):
        web.files["/film.mov"].ranges = ranges
        with pytest.raises(errors.UsageError, match=f"has {SIZE:,} bytes, and 5 were expected: nothing was sent"):
            await world.upload(url, expected_size=5)
    assert world.s3.uploads == {}


# -- redirects


def to(location: str, status: int = 302) -> WebFault:
    return WebFault(status=status, headers={"Location": location}, times=10_000)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.exhaustive
async def test_a_redirect_is_followed(world: World, web: WebServer, status: int) -> None:
    fault = to(f"/film.mov?{SECRET}", status)
    fault.when = lambda asked: asked.path == "/latest.mov"
    web.faults.append(fault)
    result = await world.upload(f"{web.url}/latest.mov", to=f"s3://{BUCKET}/")
    assert result.key == "latest.mov"  # as the user wrote it
    assert holds(world, key="latest.mov")
    assert [asked.path for asked in web.asked].count("/latest.mov") == 1  # the parts go to where that led
    assert SECRET not in world.manifest_path.read_text()


@pytest.mark.slow
async def test_where_a_redirect_led_may_expire(world: World, web: WebServer) -> None:
    """The first URL is asked again, which leads to another one."""
    for location, times in (("/film.mov?1", 1), ("/film.mov?2", 99)):
        redirect = to(location)
        redirect.when, redirect.times = lambda asked: asked.path == "/latest.mov", times
        web.faults.append(redirect)
    web.faults.append(WebFault(status=403, when=lambda asked: is_part(asked) and asked.path == "/film.mov?1", times=99))
    await world.upload(f"{web.url}/latest.mov", concurrency=1)
    assert holds(world)
    assert web.asked[-1].path == "/film.mov?2"


async def test_redirects_without_end(world: World, web: WebServer, url: str) -> None:
    web.faults.append(to(f"/film.mov?{SECRET}"))
    with pytest.raises(errors.SourceUnsupported, match="redirects more than 10 times") as caught:
        await world.upload(url)
    assert_secretless(caught.value, [SECRET])
    assert len(web.asked) == 11


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("ftp://127.0.0.1/film.mov", r"redirects to a URL of another scheme \(ftp:\)"),
        ("file:///etc/passwd", r"another scheme \(file:\)"),
        (f"//user:{SECRET}@127.0.0.1/film.mov", "holds credentials"),
        ("", "without a valid Location"),
        ("http://[::1/", "can't be used"),
    ],
)
async def test_redirects_that_are_not_followed(
    world: World, web: WebServer, url: str, location: str, says: str
) -> None:
    web.faults.append(to(location))
    with pytest.raises(errors.SourceUnsupported, match=says) as caught:
        await world.upload(url)
    assert caught.value.exit_code == errors.EXIT_FAILED
    assert_secretless(caught.value, [SECRET])
    assert len(web.asked) == 1


async def test_nothing_is_read_unencrypted_after_https(world: World, web: WebServer) -> None:
    certificates = make_certificates(world.directory)
    with web_server(certificates) as secure:
        secure.faults.append(to(f"{web.url}/film.mov?{SECRET}"))
        options = bigupload.S3Options(endpoint_url=world.s3.url, region=world.s3.region, ca_bundle=certificates.ca)
        with pytest.raises(errors.SourceUnsupported, match=r"redirects to http://127.0.0.1:\d+, which is not enc") as e:
            await world.upload(f"{secure.url}/film.mov", options=options)
    assert_secretless(e.value, [SECRET])
    assert web.asked == []


@pytest.mark.slow
async def test_https_with_a_certificate_of_ones_own(world: World, web: WebServer) -> None:
    certificates = make_certificates(world.directory)
    with web_server(certificates) as secure:
        secure.serve("/film.mov", DATA)
        with pytest.raises(errors.SourceUnreadable, match=r"the certificate of 127.* is not trusted.*`ca_bundle`"):
            await world.upload(f"{secure.url}/film.mov")
        web.faults.append(to(f"{secure.url}/film.mov"))  # http to https is followed
        options = bigupload.S3Options(endpoint_url=world.s3.url, region=world.s3.region, ca_bundle=certificates.ca)
        await world.upload(f"{web.url}/x.mov", options=options)
    assert holds(world)


@pytest.mark.slow
async def test_nothing_but_the_request_goes_to_another_host(world: World, web: WebServer) -> None:
    """No cookie of the first server, no Referer with its URL, no credentials."""
    with web_server() as other:
        other.serve("/film.mov", DATA)
        redirect = to(f"{other.url}/film.mov")
        redirect.headers = {**redirect.headers, "Set-Cookie": f"session={SECRET}; Domain=127.0.0.1"}
        web.faults.append(redirect)
        await world.upload(f"{web.url}/film.mov?{SECRET}")
        assert holds(world)
        for asked in other.asked:
            assert asked.headers.keys() <= {
                "host",
                "range",
                "if-match",
                "if-range",
                "accept",
                "accept-encoding",
                "user-agent",
            }
            assert SECRET not in str(asked)


# -- responses that help nobody


@pytest.mark.exhaustive
@pytest.mark.parametrize("status", [401, 403])
async def test_a_server_that_wants_credentials(world: World, web: WebServer, url: str, status: int) -> None:
    web.faults.append(WebFault(status=status, times=9))
    with pytest.raises(errors.SourceUnreadable, match=f"responded {status}. No credentials are sent") as caught:
        await world.upload(url)
    assert caught.value.exit_code == errors.EXIT_FAILED
    assert_secretless(caught.value, [SECRET])


@pytest.mark.exhaustive
@pytest.mark.parametrize("status", [404, 410])
async def test_a_file_that_is_not_there(world: World, web: WebServer, url: str, status: int) -> None:
    web.faults.append(WebFault(status=status, times=9))
    with pytest.raises(errors.SourceNotFound, match=f"film.mov: the server responded {status}: there is no such file"):
        await world.upload(url)
    assert len(web.asked) == 1


async def test_a_compressed_response(world: World, web: WebServer, url: str) -> None:
    for ranges in (True, False):
        web.serve("/film.mov", DATA, ranges=ranges, headers={"Content-Encoding": "gzip"})
        with pytest.raises(errors.SourceUnsupported, match=r"the server sends it compressed \('gzip'\)"):
            await world.upload(url)
    for coding in ("gzip", "gzip, chunked"):
        web.serve("/film.mov", DATA, ranges=False, end="chunks", headers={"Transfer-Encoding": coding})
        with pytest.raises(errors.SourceUnsupported, match="the server sends it compressed"):
            await world.upload(url)


@pytest.mark.slow
async def test_a_server_that_forgets_its_ranges(world: World, web: WebServer, url: str) -> None:
    def forget() -> None:
        web.files["/film.mov"].ranges = False

    web.faults.append(WebFault(cut_after=SIZE, after=forget))
    with pytest.raises(errors.SourceUnreadable, match="sent a range before, and now responds 200"):
        await world.upload(url)


# -- names and types


@pytest.mark.parametrize(
    ("path", "disposition", "key"),
    [
        ("/film.mov", 'attachment; filename="other.mov"', "film.mov"),
        ("/download?id=7", "attachment; filename*=UTF-8''%C3%A4.mov", "ä.mov"),
    ],
)
@pytest.mark.exhaustive
async def test_the_name_of_the_object(
    world: World, web: WebServer, path: str, disposition: str | None, key: str
) -> None:
    headers = {} if disposition is None else {"Content-Disposition": disposition}
    web.serve(path.partition("?")[0], DATA[:9], headers=headers)
    result = await world.upload(web.url + path, to=f"s3://{BUCKET}/")
    assert result.key == key


@pytest.mark.slow
async def test_a_url_without_a_name(world: World, web: WebServer) -> None:
    web.serve("/", DATA[:9])
    with pytest.raises(errors.UsageError, match="has no name of its own: give it one"):
        await world.upload(f"{web.url}/", to=f"s3://{BUCKET}/")
    result = await world.upload(f"{web.url}/", to=f"s3://{BUCKET}/", name="x.mov")
    assert result.key == "x.mov"


@pytest.mark.parametrize(
    ("path", "told", "content_type"),
    [
        ("/film.mov", "text/html", "video/quicktime"),  # servers know less of films than names do
        ("/download", "video/mp4", "video/mp4"),
        ("/download", "video/mp4; name=Z\xfcrich", "application/octet-stream"),
        ("/download", "video/mp4\x7f", "application/octet-stream"),
        ("/download", "binary/octet-stream", "application/octet-stream"),
        ("/download", None, "application/octet-stream"),
    ],
)
@pytest.mark.exhaustive
async def test_the_type_of_the_object(
    world: World, web: WebServer, path: str, told: str | None, content_type: str
) -> None:
    web.serve(path, DATA[:9], headers={} if told is None else {"Content-Type": told})
    await world.upload(f"{web.url}{path}")
    assert world.object().headers["content-type"] == content_type


# -- URLs that can't be used


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"follow": True}, "`follow` is for files"),
        ({"end_marker": "x"}, "`end_marker` is for streams, not for URLs"),
        ({"skip_existing": True}, "`skip_existing` is for files"),
    ],
)
async def test_options_that_do_not_go_with_urls(world: World, url: str, more: dict[str, str], says: str) -> None:
    with pytest.raises(errors.UsageError, match=says):
        await world.upload(url, **more)


@pytest.mark.slow
def test_a_remote_source_can_be_hashed_once_more(world: World, url: str) -> None:
    result = bigupload.upload_sync(url, to=f"s3://{BUCKET}/key", s3=world.options(), verify_source=True)
    assert result.parts == PARTS or result.parts == 1


@pytest.mark.slow
async def test_the_users_proxy_is_used(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, certificates = ForwardProxy(), make_certificates(world.directory)
    options = bigupload.S3Options(endpoint_url=world.s3.url, region=world.s3.region, ca_bundle=certificates.ca)
    with web_server(certificates) as secure:
        secure.serve("/film.mov", DATA)
        async with proxy_of_the_environment(monkeypatch, proxy) as port:
            monkeypatch.setenv("https_proxy", f"http://user:{SECRET}@127.0.0.1:{port}")
            monkeypatch.setenv("no_proxy", world.s3.url.removeprefix("http://"))
            await world.upload(f"{secure.url}/film.mov", options=options)
        assert holds(world)
        assert set(proxy.targets) == {secure.url.removeprefix("https://")}
        assert SECRET not in str(secure.asked)
        secure.asked.clear()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        await world.upload(f"{secure.url}/film.mov", options=options)
        assert len(secure.asked) > PARTS
    assert world.warnings().count("uploaded before") == 1
