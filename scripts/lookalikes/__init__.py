"""What `scripts.make_lookalikes` writes: schemas and rows."""
