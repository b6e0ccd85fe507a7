"""Data sets of the hub in a data root: fetched, described by a manifest, checked.

cards.py     which files of a repository a benchmark reads, by the data set's card
manifest.py  what a root should hold
root.py      what a root holds for one benchmark: whether it is whole, and its digest
videos.py    whether the videos that documents ask for are there
lookalike.py a root that says that its data are none of the benchmarks'
hub.py       the hub, through huggingface_hub's client; imported by `data fetch` alone
archives.py  videos out of zip and tar files
plan.py      what to fetch for benchmarks, with sizes
fetch.py     the command that fetches
check.py     the command that compares a root with its manifest
stored_media.py  whether pictures come from files of the root and nowhere else
suites.py    the tables of benchmarks and suites, and the calibration set
"""
