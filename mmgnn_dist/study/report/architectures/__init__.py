"""Report section on what the architectures share: gains, errors and representations."""
