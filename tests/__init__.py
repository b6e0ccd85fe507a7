"""Tests; shared helpers are modules beside this file."""
