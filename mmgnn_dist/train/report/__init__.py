"""Tables, pictures and test results of a run."""
