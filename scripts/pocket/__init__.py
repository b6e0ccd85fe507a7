"""Data and training of the pocket model."""
