"""HTTP as this program serves it: small answers on ports that anybody may reach (H1, H2, H3).

``server`` is the one server of healthCheckNodePorts, probes and metrics; ``accepting`` takes connections without
running out of descriptors; ``passed`` finds the sockets that a service manager has opened. Who imports none of them
by name pays for none of them.
"""
