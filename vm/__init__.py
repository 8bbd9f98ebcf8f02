"""A cluster of virtual machines: what builds it, what runs in it, and what is tried on it. See docs/lab.md."""
