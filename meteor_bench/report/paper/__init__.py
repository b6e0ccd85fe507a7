"""The papers' tables again, our number beside the reported one.

numbers/      what was reported, by whom, read where; which run each row is
numbers.py    reads it
run_index.py  finds the runs of a table among records
measured.py   takes a column's number from them
layout.py     tables and frames
document.py   all of them in one document
"""
