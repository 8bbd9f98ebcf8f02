"""The desired state and what it holds: objects as they were applied, nodePorts and clusterIPs.

``api`` says what the program wants of a store, ``writing`` what a write does to any of them. ``sqlite/`` is one file,
for any number of processes on one machine. Three rules carry it:

- **One write, one transaction.** A writer takes the file's write lock before it reads what is free
  (``BEGIN IMMEDIATE``), so nothing it has read can be stale when it writes. Killed at any moment, all of its
  transaction is there or none of it.
- **The schema says what is unique.** A nodePort and a clusterIP are primary keys that refer to the Service
  which holds them and vanish with it: no code can give one twice, and none can forget to give one back.
- **Every change has a number.** The resource version grows with each object that is created, changed or
  deleted; a watcher that knows one asks for what came after it, deletions among it.

A stored body is the document as it was read, with unknown fields, and with the defaults and allocations that
the Kubernetes API server would have filled in. Of Pods and Nodes only that is kept which is of use here.

The file and SQLite's files beside it belong to one user alone, and are believed only where nobody else can have
written them.
"""

from nodeport_nft.store.api import Applied, Change, Changes, Conflict, Objects, Superseded, Written
from nodeport_nft.store.errors import LOST, StoreError
from nodeport_nft.store.kubernetes.connection import is_kubernetes
from nodeport_nft.store.objects import Damaged
from nodeport_nft.store.opening import (
    check_store,
    copy_store,
    is_shared,
    may_exist,
    open_existing,
    open_file,
    open_members,
    open_objects,
    open_trial,
    refuse_shared,
)
from nodeport_nft.store.sqlite.opening import delete_store, file_identity
from nodeport_nft.store.sqlite.store import Store
from nodeport_nft.store.sqlite.writers import OthersObjects
from nodeport_nft.store.strange import told_strange

__all__ = [
    "LOST",
    "Applied",
    "Change",
    "Changes",
    "Conflict",
    "Damaged",
    "Objects",
    "OthersObjects",
    "Store",
    "StoreError",
    "Superseded",
    "Written",
    "check_store",
    "copy_store",
    "delete_store",
    "file_identity",
    "is_kubernetes",
    "is_shared",
    "may_exist",
    "open_existing",
    "open_file",
    "open_members",
    "open_objects",
    "open_trial",
    "refuse_shared",
    "told_strange",
]
