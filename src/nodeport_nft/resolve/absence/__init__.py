"""Why a Service has no usable endpoint, told to whoever asks: the likeliest cause first, each with what to change.

Where endpoints come from is ``Join``'s to say; this room goes the same way once more and looks at what fell out of it
(``pods``, ``slices``), at what nearly belongs to the Service (``near``, ``strays``), and at where the endpoints run
(``local``). What the model leaves out, because no Service can use it, is read from the documents (``around``).

Nothing of it is done while a node is programmed. It costs what lies in the Service's namespace, and looks for what is
near no further than a budget reaches, so that no set of objects can make the answer wait.
"""

from nodeport_nft.resolve.absence.around import Around, Document
from nodeport_nft.resolve.absence.cause import Cause
from nodeport_nft.resolve.absence.left_out import left_out
from nodeport_nft.resolve.absence.why import why_none

__all__ = ["Around", "Cause", "Document", "left_out", "why_none"]
