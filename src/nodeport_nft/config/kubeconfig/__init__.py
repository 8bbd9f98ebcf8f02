"""How to come to an API server, and who we are there: kubeconfigs as kubectl reads them, and a pod's own account.

``finding`` says which files count and which context; ``clusters`` and ``users`` read what it names, with ``entries``,
which knows files and lines; ``pod`` is the account of a pod. What comes out is an ``Access``. All that is wrong is
told at once. Nothing here opens a connection or needs a library.

Sources: kubernetes.io, "Organizing Cluster Access Using kubeconfig Files" and the reference of ``kubeconfig (v1)``.
"""

from nodeport_nft.config.kubeconfig.access import NO_PEM, Access, Cluster, Pem, Plugin, User
from nodeport_nft.config.kubeconfig.finding import find_access

__all__ = ["NO_PEM", "Access", "Cluster", "Pem", "Plugin", "User", "find_access"]
