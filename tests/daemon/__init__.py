"""The daemon as it is installed, on a node of the lab: real packets, the real kernel, real signals."""
