"""Timing on purpose: methods beside the unpruned model, and what choosing costs. `meteor-bench latency`."""
