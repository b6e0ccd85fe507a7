"""`meteor-bench choose`: a method and a ratio for a goal.

goal.py      what qualifies, and what is better
halving.py   which candidates go on with more questions
carry.py     answers of a smaller sample, kept for a larger one
measure.py   candidates as runs, through what a sweep has for its cells
command.py   the course, and what is said at its end
"""
