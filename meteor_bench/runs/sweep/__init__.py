"""Many runs: methods x ratios x models x suites x seeds.

grid.py         what is asked for: a YAML file and flags, cell by cell
estimate.py     what it will take, from finished records or a short probe
task.py         one cell: its run, or why it failed
runner.py       cell after cell in one process
ray_backend.py  the same cells as tasks of a Ray cluster
summary.py      the table of all, and what failed
command.py      from flags to the last line
"""
