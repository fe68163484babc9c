"""Runs to look at: one page a run, several runs side by side, and a server of them on this machine."""
