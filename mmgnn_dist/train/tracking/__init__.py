"""The journal of a run and its record in W&B."""
