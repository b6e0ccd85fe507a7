"""Which tests this run is of, for modules that make thousands of cases: what is not wanted need not be made.

Attributes:
    slow: whether tests marked slow are run; `tests/conftest.py` sets it before the test modules are read.
"""

slow = True
