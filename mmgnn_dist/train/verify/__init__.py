"""`mmgnn verify RUN`: check the records of a run and recompute its steps."""
