"""What readers of tables share, and the readers of arrays: which columns hold a geometry, in which layout."""
