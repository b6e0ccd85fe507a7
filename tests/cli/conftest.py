"""Fixtures of the data sets' tests, for the commands over them."""

from tests.data.conftest import cable, hub, online, root, shelf

__all__ = ["cable", "hub", "online", "root", "shelf"]
