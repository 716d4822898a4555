"""What goes wrong on the way: keys, responses, parts, networks, files."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Route, expect

from tests.tools.browser import SENT, Profile, UploadPage, window
from tests.tools.page import MIB, PART, Held, Stage, clip, numbers, quiet

pytestmark = pytest.mark.slow


def test_a_key_revoked_half_way_is_asked_for_and_it_goes_on(page: UploadPage, stage: Stage, tmp_path: Path) -> None:
    file = clip(tmp_path, 16 * PART)
    key = stage.service.new_key("local")
    page.page.get_by_label("API key").fill(key)
    held = Held(page, stage, after=1)
    page.choose(file)
    page.expect_stored(PART)
    stage.service.revoke(key)
    held.let_go()
    page.expect_state("unauthorized", within=SENT)  # which it enters when all that was under way has ended
    under_way = {number: part.attempts for number, part in stage.newest().items()}
    assert len(under_way) > 1
    field = page.page.get_by_label("API key")
    expect(page.banner).to_contain_text("revoked")
    expect(page.page.locator("#key-error")).to_contain_text("revoked")
    field.fill(stage.service.key)
    field.press("Enter")
    url = page.expect_done()
    attempts = stage.attempts(url)
    again = {number for number, before in under_way.items() if attempts[number] > before}
    assert not again, "what was under way when the key was revoked was thrown away"
    assert stage.has(url, file)
    quiet(page, lost=True)


def test_a_complete_whose_response_is_lost_is_asked_after(page: UploadPage, stage: Stage, tmp_path: Path) -> None:
    def lose(route: Route) -> None:
        assert route.fetch().status == 200
        route.abort()

    file = clip(tmp_path)
    page.page.route("**/v1/media/multipart/complete", lose)
    page.choose(file)
    assert stage.has(page.expect_done(), file)
    assert len(page.calls("POST", "/v1/media/multipart")) == 1
    assert len(page.calls("POST", "/complete")) == 1
    quiet(page, lost=True)


@pytest.mark.parametrize(("status", "signed_again"), [(503, False), (403, True)])
def test_a_part_that_the_store_refuses_once(
    page: UploadPage, stage: Stage, tmp_path: Path, status: int, signed_again: bool
) -> None:
    refused = []

    def refuse_once(route: Route) -> None:
        if route.request.method == "PUT" and "partNumber=2" in route.request.url and not refused:
            refused.append(route.request.url)
            route.fulfill(status=status, headers={"Access-Control-Allow-Origin": "*"}, body="<Error/>")
        else:
            route.continue_()

    file = clip(tmp_path)
    page.page.route(stage.proxy.url + "/**", refuse_once)
    page.choose(file)
    assert stage.has(page.expect_done(), file)
    assert refused
    asked = [number for call in page.calls("POST", "/parts") for number in numbers(call.post_data_json)]
    assert asked.count(2) == 1 + signed_again
    quiet(page, lost=True)


@pytest.mark.parametrize(
    ("minutes", "signed_again"),
    [pytest.param(1, False, id="a minute"), pytest.param(59.5, True, id="nearly an hour, which URLs live")],
)
def test_a_part_that_stalls_is_sent_again(
    page: UploadPage, stage: Stage, tmp_path: Path, minutes: float, signed_again: bool
) -> None:
    page.page.clock.install()
    page.open(stage.service.url, stage.service.key)
    file = clip(tmp_path)
    sent: list[Route] = []

    def hold_the_first_three(route: Route) -> None:
        sent.append(route)
        if len(sent) > 3:
            route.continue_()

    page.page.route(stage.proxy.url + "/**", hold_the_first_three)
    with page.page.expect_request(lambda _: len(page.calls("PUT", "")) == 3):
        page.choose(file)
    page.page.clock.fast_forward(round(minutes * 60_000))
    assert stage.has(page.expect_done(), file)
    assert len(sent) == 6
    asked = [number for call in page.calls("POST", "/parts") for number in numbers(call.post_data_json)]
    assert sorted(asked) == sorted([1, 2, 3] * (1 + signed_again))


def test_without_a_network_it_waits_and_goes_on_by_itself(page: UploadPage, stage: Stage, tmp_path: Path) -> None:
    file = clip(tmp_path)
    held = Held(page, stage, after=1)
    page.choose(file)
    page.expect_stored(PART)
    page.page.context.set_offline(True)
    held.let_go()
    expect(page.banner).to_contain_text("No connection")
    page.page.context.set_offline(False)
    assert stage.has(page.expect_done(), file)
    quiet(page, lost=True)


def test_a_file_that_changes_under_way_is_noticed(page: UploadPage, stage: Stage, tmp_path: Path) -> None:
    file = clip(tmp_path)
    held = Held(page, stage, after=1)
    page.choose(file)
    page.expect_stored(PART)
    with file.open("ab") as out:
        out.write(b"more")
    page.button("Pause").click()
    held.let_go()
    page.button("Continue").click()
    page.expect_state("failed")
    expect(page.remark).to_contain_text("changed")
    expect(page.button("Choose the file")).to_be_visible()


def test_a_hooks_reason_is_shown(page: UploadPage, tmp_path: Path) -> None:
    reason = "only the press office uploads on Sundays"
    refusal = {"error": {"code": "upload_refused", "message": reason}}
    page.page.route("**/v1/media/multipart", lambda route: route.fulfill(status=403, json=refusal))
    page.choose(clip(tmp_path))
    page.expect_state("failed")
    expect(page.row).to_contain_text("Not accepted")
    expect(page.remark).to_have_text("Only the press office uploads on Sundays.")
    expect(page.button("Remove")).to_be_visible()


def test_with_the_owners_key_it_goes_on(profile: Profile, stage: Stage, tmp_path: Path) -> None:
    """The upload was begun by alice; whoever is at the browser now has another key at first, and sees nothing."""
    file, alice = clip(tmp_path), stage.service.new_key("alice")
    with profile.page() as page:
        page.open(stage.service.url, alice)
        Held(page, stage, after=1)
        page.choose(file)
        page.expect_stored(PART)
    with profile.page() as page:
        page.open(stage.service.url, stage.service.key)
        page.page.get_by_label("API key").press("Enter")
        expect(page.page.locator("#owner")).to_have_text("Uploading as local")
        expect(page.page.locator(".row")).to_have_count(0)
        page.choose(file)
        assert "/local/" in page.expect_done()
        page.page.get_by_role("button", name="Change key").click()
        page.page.get_by_label("API key").fill(alice)
        page.page.get_by_label("API key").press("Enter")
        page.expect_state("remembered")
        page.choose(file)
        done = page.page.locator('.row[data-state="done"]')
        expect(done).to_have_count(2, timeout=SENT)
        expect(page.page.locator("#owner")).to_have_text("Uploading as alice")
        urls = [link.get_attribute("href") or "" for link in done.get_by_role("link").all()]
    [url] = [url for url in urls if "/alice/" in url]
    assert stage.has(url, file)


def test_what_the_network_ended_goes_on_when_it_is_back(page: UploadPage, stage: Stage, tmp_path: Path) -> None:
    """After a quarter of an hour without a response the client gives up, and the page does not."""
    page.page.clock.install()
    page.open(stage.service.url, stage.service.key)
    file = clip(tmp_path)
    held = Held(page, stage, after=1)
    page.choose(file)
    page.expect_stored(PART)
    page.page.route("**/v1/**", lambda route: route.abort())
    page.button("Pause").click()
    held.let_go()
    page.button("Continue").click()
    expect(page.banner).to_contain_text("The service does not respond")
    while page.row.get_attribute("data-state") != "failed":
        page.page.clock.run_for(60_000)
    expect(page.remark).to_contain_text("continues by itself")
    page.page.unroute("**/v1/**")
    page.page.clock.run_for(61_000)
    page.page.clock.resume()
    assert stage.has(page.expect_done(), file)


def test_a_slow_end_can_be_paused(page: UploadPage, stage: Stage, tmp_path: Path) -> None:
    file, asked = clip(tmp_path), []

    def slow(route: Route) -> None:
        asked.append(route)
        if len(asked) > 1:
            route.continue_()

    page.page.route("**/v1/media/multipart/complete", slow)
    page.choose(file)
    page.expect_state("finishing")
    page.button("Pause").click()
    page.expect_state("paused")
    page.button("Continue").click()
    assert stage.has(page.expect_done(), file)


def test_in_another_language(browser: Browser, stage: Stage, tmp_path: Path) -> None:
    with window(browser, language="de-AT") as page:
        page.page.goto(stage.service.url)
        page.page.get_by_label("API-Schlüssel").fill(stage.service.key)
        page.choose(clip(tmp_path, 1_234_567))
        page.expect_done()
        expect(page.row.locator(".figures")).to_have_text("1,2 MB")
        expect(page.row).to_contain_text("Hochgeladen")
        expect(page.page.locator("html")).to_have_attribute("lang", "de")
        quiet(page)


def test_a_store_without_cors_rules_is_said_to_be(page: UploadPage, stage: Stage, tmp_path: Path) -> None:
    """And not that there is no connection: the browser tells a page neither of the two."""
    refused = 0

    def answer(route: Route) -> None:
        nonlocal refused
        refused += route.request.method == "PUT"
        if route.request.method == "PUT":
            route.abort()  # which is what the page sees
        else:
            route.fulfill(status=403)

    page.page.route(stage.proxy.url + "/**", answer)
    page.choose(clip(tmp_path, MIB))
    expect(page.banner).to_contain_text("CORS rules are missing")
    page.expect_state("failed")
    expect(page.remark).to_contain_text("CORS rules are missing")
    assert refused == 4
    page.page.unroute(stage.proxy.url + "/**")
    page.button("Continue").click()
    page.expect_done()
