"""The report as one HTML file that needs nothing else: no network, no folder beside it.

data.py      a section in plain data, and who is on a Pareto front
samples.py   questions and answers as columns, those that pruning changed first
chapter.py   settings that may be compared, with all that is said of them
markup.py    elements whose texts are escaped
tables.py    the sortable tables
head.py      the top of the page
parts.py     its parts
reported.py  what papers report, beside what was measured or apart from it
page.py      all of it in one file, under a policy that lets nothing be loaded and no foreign script run
build.py     from cells to the file
static/      style and scripts
"""
