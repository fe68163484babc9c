"""`mmgnn doctor`: find what will not work on this machine or cluster before it costs compute time."""
