"""Tables, plots and test results of a run."""
