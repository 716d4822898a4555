"""What goes wrong on the way: keys, responses, parts, networks, files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from tests.tools.browser import SENT, UploadPage
from tests.tools.page import Held, Stage, clip, numbers, quiet

pytestmark = pytest.mark.slow


def test_a_key_revoked_half_way_is_asked_for_and_it_goes_on(page: UploadPage, stage: Stage, video: Path) -> None:
    key = stage.service.new_key("local")
    page.page.get_by_label("API key").fill(key)
    held = Held(page, stage, after=1)
    page.choose(video)
    expect(page.card).to_contain_text(re.compile("1 of .. parts"))
    stage.service.revoke(key)
    held.let_go()
    page.expect_phase("key", within=SENT)
    field = page.page.get_by_label("API key")
    expect(field).to_be_focused()
    expect(page.page.locator("#key-error")).to_contain_text("revoked")
    field.fill(stage.service.key)
    field.press("Enter")
    url = page.expect_done()
    assert set(stage.attempts(url).values()) == {1}, "what was under way when the key was revoked was thrown away"
    assert stage.has(url, video)
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
    expect(page.card).to_contain_text("1 of 3 parts")
    page.page.context.set_offline(True)
    held.let_go()
    expect(page.card).to_contain_text("No connection")
    page.page.context.set_offline(False)
    assert stage.has(page.expect_done(), file)
    quiet(page, lost=True)


def test_a_file_that_changes_under_way_is_noticed(page: UploadPage, stage: Stage, tmp_path: Path) -> None:
    file = clip(tmp_path)
    held = Held(page, stage, after=1)
    page.choose(file)
    expect(page.card).to_contain_text("1 of 3 parts")
    with file.open("ab") as out:
        out.write(b"more")
    page.button("Pause").click()
    held.drop()
    page.button("Continue").click()
    page.expect_phase("failed")
    expect(page.card.get_by_role("alert")).to_contain_text("changed")
    expect(page.button("Choose the file again")).to_be_visible()
