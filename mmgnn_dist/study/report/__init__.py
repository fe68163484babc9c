"""The report of a study: one module per section, and the elements of sections."""
