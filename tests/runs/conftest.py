"""Fixtures of the papers' tests, for the runs that their tables lack."""

from tests.report.paper.conftest import fill, jobs, runs

__all__ = ["fill", "jobs", "runs"]
