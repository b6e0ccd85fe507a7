"""The papers' tables again, our number beside the reported one.

numbers/      what was reported, by whom, read where; which run each row is
numbers.py    reads it
shelf.py      finds the runs of a table among records and takes a column's number from them
plan.py       which runs are missing, and what they will take
layout.py     tables and frames
command.py    the body of `meteor-bench paper`
"""
