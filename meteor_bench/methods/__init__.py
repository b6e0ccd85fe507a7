"""Pruning methods, one file each; the table is `meteor_bench.core.registry.METHODS`."""
