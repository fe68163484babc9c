"""Messages along the pairs of a batch: tensor operations, tabulated filters, and compiled loops on a CPU."""
