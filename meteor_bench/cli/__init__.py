"""The command line: one file a command, thin over the module that does the work.

Nothing heavy is imported before a command is known (ruff's TID253), and of the commands' files only the one that is
asked for.
"""

from meteor_bench.cli.app import main

__all__ = ["main"]
