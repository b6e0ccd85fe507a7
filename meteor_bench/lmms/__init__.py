"""lmms-eval as the engine of all accuracy runs; nothing outside this package imports it.

harness.py   imports it with its side effects undone, keeps it quiet
plugin.py    the model class that it drives
model_args.py  its --model_args as settings of a run
journal.py   answers on disk as they are produced
tasks.py     its tasks over our data; task_rows.py: rows that may be anything
root.py      its own tasks inside a data root; inputs.py: where that is, and how videos are read
media.py     pictures and videos of documents: video.py, upright.py, encoded.py
evaluate.py  benchmarks in, results out; scoring.py: what one document is worth
requests.py  requests of benchmarks for runs that are not scored; rows.py: documents without their pictures
document.py  one question alone, to look at
"""
