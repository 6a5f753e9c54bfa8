"""What all tests have in common: markers that depend on the machine."""

import os

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    skip = pytest.mark.skip(reason="needs the rights of root")
    for item in items:
        if "needs_root" in item.keywords:
            item.add_marker(skip)
