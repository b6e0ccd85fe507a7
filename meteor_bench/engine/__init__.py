"""A model under a method: the engine encodes, fuses, prefills and decodes, and asks the method at its points."""
