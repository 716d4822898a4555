"""What closing the page costs behind a proxy that takes whole bodies and passes them on slowly, in a real browser."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from bigupload.core.stored_rate import HORIZON
from bigupload.stores.local_store import LocalStore
from tests.tools.browser import Profile
from tests.tools.buffering_proxy import buffering_proxy
from tests.tools.page import PART, clip
from tests.tools.service import serving

pytestmark = pytest.mark.slow

RATE = 2e6
"""Bytes a second."""


@pytest.mark.parametrize("in_turn", [True, False], ids=["one after another", "all together"])
def test_a_closed_page_loses_ten_seconds_of_what_is_stored(
    profile: Profile, weed: LocalStore, tmp_path: Path, in_turn: bool
) -> None:
    file = clip(tmp_path, 16 * PART)
    # By then, what was begun before the first response is stored.
    closed_at = random.Random(f"{in_turn}").randrange(6 * PART, 10 * PART)
    with buffering_proxy(weed.endpoint_url, RATE, in_turn=in_turn) as proxy:
        options = ("--client-endpoint-url", proxy.url, "--requests", "10000", "--sweep-every", "0")
        with serving(weed, tmp_path / "home", *options) as service:
            with profile.page() as page:
                page.open(service.url, service.key)
                page.choose(file)
                held = proxy.wait_until_passed(closed_at)
            assert 0 < held <= proxy.most_held <= max(HORIZON * RATE, PART)
            proxy.rate = None
            with profile.page() as page:
                page.open(service.url, service.key)
                page.choose(file)
                page.expect_done()
    straggler = PART  # may be sent twice
    assert proxy.accepted <= file.stat().st_size + max(HORIZON * RATE, PART) + straggler
