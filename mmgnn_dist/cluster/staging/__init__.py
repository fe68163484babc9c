"""A Python environment for the local disks of nodes: packed once, unpacked by a step on every node."""
