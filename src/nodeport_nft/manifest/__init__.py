"""Manifests: YAML or JSON documents → checked values of the model, every error with file, line and field.

The room's doors to the outside are ``read_manifests`` and, for one file alone, ``read_manifest``; ``parse_object``
reads what a store holds. Text goes through five steps, each in a module of its own: ``files`` (paths → text),
``yaml_text`` and ``json_text`` (text → documents that know their lines), ``lists`` (documents → one for each object),
``objects`` with a module for each group of kinds (document → model, noting problems by path), and ``collection``
(paths → lines; conflicts between objects; what is wrong with documents that are ``skipped`` is nobody's problem).
Nothing stops at the first error, and no input ends in an exception other than ``Problems``.
"""

from nodeport_nft.manifest.collection import Manifests, Reading, read_manifest, read_manifests
from nodeport_nft.manifest.objects import KINDS, Object, parse_object
from nodeport_nft.problems import Problem, Problems
from nodeport_nft.settings import Validate

__all__ = [
    "KINDS",
    "Manifests",
    "Object",
    "Problem",
    "Problems",
    "Reading",
    "Validate",
    "parse_object",
    "read_manifest",
    "read_manifests",
]
