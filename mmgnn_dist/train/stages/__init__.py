"""The stages of a run: build, resume, fit, test, record; `sequence` goes through them in order."""
