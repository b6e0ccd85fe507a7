"""Timing on purpose: methods beside the unpruned model, and what choosing costs. `meteor-bench latency`.

options.py           what is asked for
requests.py          the batches that are timed
interleave.py        sessions in turn, batch by batch, with and without the stages' clock
selection_meter.py   a method's own decisions, apart from the engine around them
command.py           cell by cell, each on disk when it is measured
selection.py         the same for what choosing costs
records.py           what is kept
launches.py          what a GPU would be sent and waited for: pretend_device.py, which writes in ledger.py
summary.py           percentiles, speed-ups, their intervals
tables.py, selection_tables.py, launch_tables.py  a document of each
"""
