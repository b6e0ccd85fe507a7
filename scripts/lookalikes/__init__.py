"""What `scripts.make_lookalikes` writes: schemas, and rows of pictures and of videos."""
