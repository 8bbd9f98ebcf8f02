"""Who is measured: each brings the same Services into the kernel of a node of its own, in its own way."""
