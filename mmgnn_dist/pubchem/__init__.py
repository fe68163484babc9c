"""PubChem: its web service (client, throttle, cache, look-up) and its bulk files."""
