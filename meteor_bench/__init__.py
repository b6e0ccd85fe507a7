"""Benchmark harness for visual-token pruning in multi-encoder vision-language models."""

__version__ = "0.1.0"

__all__ = ["__version__"]
