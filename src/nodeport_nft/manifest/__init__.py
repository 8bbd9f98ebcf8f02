"""Manifests: YAML or JSON documents → checked values of the model, every error with file, line and field.

The room's doors to the outside are ``read_manifests`` and, for one file alone, ``read_manifest``; for what stands in
none, ``read_document``. Between the text
that ``text`` reads and the objects that ``kube`` makes stand ``lists`` (documents → one for each object),
``collection`` (paths → lines; conflicts between objects) and ``skipped`` (what is not used here, and what is wrong
with it is no problem). Nothing stops at the first error, and no input ends in an exception other than ``Problems``.
"""

from nodeport_nft.kinds import KINDS
from nodeport_nft.kube import Object, parse_object
from nodeport_nft.manifest.collection import Manifests, Reading, read_document, read_manifest, read_manifests
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
    "read_document",
    "read_manifest",
    "read_manifests",
]
