"""What a run folder holds: its schema, how it is read and written, and what a number was obtained with."""
