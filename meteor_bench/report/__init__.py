"""Records on disk into tables for people and for programs."""
