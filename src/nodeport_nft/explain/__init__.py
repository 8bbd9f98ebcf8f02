"""What the fields of an object mean here, what our annotations may say: the texts of ``explain``, and finding them.

Each field that a parser reads is a row, in our own words; a test holds that none is missing. Fields that Kubernetes
knows besides stand in ``kube/api_fields.json``: they are kept as they are, and have no effect.
"""

from nodeport_nft.explain.annotations import ANNOTATIONS, Annotation
from nodeport_nft.explain.field import Field
from nodeport_nft.explain.finding import FIELDS, KIND_TEXTS, Explained, UnknownFieldError, explained

__all__ = [
    "ANNOTATIONS",
    "FIELDS",
    "KIND_TEXTS",
    "Annotation",
    "Explained",
    "Field",
    "UnknownFieldError",
    "explained",
]
