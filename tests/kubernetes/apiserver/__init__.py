"""A Kubernetes API server for tests: real HTTP/1.1 over TLS, its objects in memory.

It is as strict as the real one (v1.36) in what the project's client can meet: resource versions, pages, watches with
a horizon, bookmarks, streamed lists, defaults and refusals of Services, field managers, RBAC. ``test_apiserver.py``
holds its answers against recordings of a real one. What can go wrong between a client and a server is asked for by a
table of faults. It runs as a process of its own; ``tests.kubernetes.running`` starts it and steers it.
"""
