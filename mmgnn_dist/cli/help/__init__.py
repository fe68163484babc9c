"""Help of the command line: examples, where to begin, suggestions for wrong words."""
