"""The regression check: a small subset against what a committed baseline file says it gave.

baseline.py   the file: settings, tolerances, what was measured
measure.py    measures one method on the subset: answers, losses, tokens, FLOPs
timing.py     selection and first-token time relative to the unpruned model
compare.py    both sides into findings
tables.py     findings as a table and as JUnit XML
command.py    the whole of it
"""
