"""Statistics of a study: paired bootstrap, corrected t-test, significance in a table, CKA."""
