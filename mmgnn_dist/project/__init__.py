"""A project of one's own: a recipe, a profile and a README from what a file and a machine show."""
