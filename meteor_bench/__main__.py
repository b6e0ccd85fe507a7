"""``python -m meteor_bench`` is ``meteor-bench``."""

from meteor_bench.cli import main

main()
