"""What a run directory holds: whose it is, and its recipe with the paths where its data lie now."""
