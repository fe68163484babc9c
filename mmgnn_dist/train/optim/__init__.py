"""What the optimiser needs beside itself: learning rates by step, averaged weights."""
