"""Statistics of a study: paired bootstrap, corrected t-test, significance over a table, CKA."""
