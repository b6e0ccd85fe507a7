"""EAGLE v1 (arXiv 2408.15998): up to five encoders, joined along channels."""
