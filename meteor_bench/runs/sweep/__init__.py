"""Many runs: methods x ratios x models x suites x seeds.

grid.py       what is asked for: a YAML file and flags, cell by cell
estimate.py   what it will take, from finished records or a short probe
course.py     cell after cell in one process
on_ray.py     the same cells as tasks of a Ray cluster
ending.py     the table of all, and what failed
"""
