"""The kernel's side: transactions through libnftables and netlink, node facts and sysctls through netlink and /proc.

Everything with an effect outside the process is here; the rest of the program is told what was found.
"""
