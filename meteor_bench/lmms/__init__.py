"""lmms-eval as the engine of all accuracy runs; nothing outside this package imports it.

harness.py   imports it with its side effects undone, keeps it quiet
plugin.py    the model class that it drives
journal.py   answers on disk as they are produced
tasks.py     its tasks over our data; task_rows.py: rows that may be anything
media.py     pictures and videos of documents: video.py, upright.py, encoded.py
evaluate.py  benchmarks in, results out
document.py  one question alone, to look at
"""
