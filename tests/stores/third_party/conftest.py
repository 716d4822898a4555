"""The stores are installed from package registries: only where `-m stores` asks for them."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests marked `stores` out unless the command line names the marker."""
    if "stores" in config.option.markexpr:
        return
    left_out = [item for item in items if item.get_closest_marker("stores")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
