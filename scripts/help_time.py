"""How long `meteor-bench --help` takes against importing Typer alone: medians of runs in turn.

python scripts/help_time.py
"""

import subprocess
import sys
import time
from statistics import median

COMMANDS = {
    "python -c 'import typer'": [sys.executable, "-c", "import typer"],
    "meteor-bench --help": [sys.executable, "-m", "meteor_bench", "--help"],
}
REPEATS = 15


def main() -> None:
    """See the top of the file."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(REPEATS):
        for name, command in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - started)
    base = median(next(iter(seconds.values())))
    for name, values in seconds.items():
        print(f"{median(values):.3f} s  {median(values) / base:.2f}x  {name}")


if __name__ == "__main__":
    main()
