"""`mmgnn doctor`: what will not work on this machine or cluster, told before it costs anything."""
