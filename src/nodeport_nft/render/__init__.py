"""nftables values → text.

``write``: a Transaction as the text that ``nft -f`` takes; what is printed for a person says what is written, and
loading it does the same. ``to_json``: a Ruleset for programs to look at.
"""

from nodeport_nft.render.json import to_json
from nodeport_nft.render.write import schema_comment, write_rule, write_transaction

__all__ = [
    "schema_comment",
    "to_json",
    "write_rule",
    "write_transaction",
]
