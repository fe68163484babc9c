"""Memory, messages and time that a recipe needs on a cluster: `mmgnn plan RECIPE`."""
