"""What a recipe needs on a cluster: `mmgnn plan RECIPE`."""
