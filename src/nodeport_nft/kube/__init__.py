"""Objects of the Kubernetes API → checked values of the model, from plain values, wherever these came from.

The room's door is ``parse_object``; what reads documents asks ``objects`` for more, and puts lines to what is told.
``objects`` names the kinds, with a module for each group of them (``service``, ``endpoints``, ``workload``);
``metadata`` and ``annotations`` are what all have; ``limits``, ``formats`` and ``foreign_keys`` are what a server
refuses besides, and ``unknown`` the fields that it does not know. All problems are collected, each with its path.
"""

from nodeport_nft.kube.objects import Object, parse_object

__all__ = ["Object", "parse_object"]
