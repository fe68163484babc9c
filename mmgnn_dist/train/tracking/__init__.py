"""The journal of a run and the record in W&B."""
