"""The report of a study: one file for each section, and what sections are made of."""
