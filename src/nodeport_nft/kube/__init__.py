"""Objects of the Kubernetes API → checked values of the model, from plain values, wherever these came from.

The room's door is ``parse_object``, strict with what comes in and lenient with what a server has validated. What
reads documents asks ``objects`` for more, and puts lines to what is told. ``objects`` has a module for each group of
kinds (``service``, ``endpoints``, ``workload``); ``metadata`` and ``annotations`` are what all have; ``limits``,
``formats`` and ``foreign_keys`` are what a server refuses besides, and ``unknown`` the fields that it does not know.
All problems are collected, each with its path.
"""

from nodeport_nft.kube.objects import Object, parse_object

__all__ = ["Object", "parse_object"]
