"""nftables values ↔ text.

``write``: a Transaction as the text that libnftables and ``nft -f`` take; what is printed for a person is what is
written, byte for byte. ``read``: the listing of a table (``nft list table``) back into values, so that what the
kernel holds can be compared with what it should hold. ``to_json``: a Ruleset for programs to look at.
"""

from nodeport_nft.plan import ListedTable
from nodeport_nft.render.json import to_json
from nodeport_nft.render.read import read_table, schema_differences
from nodeport_nft.render.write import schema_comment, write_rule, write_transaction

__all__ = [
    "ListedTable",
    "read_table",
    "schema_comment",
    "schema_differences",
    "to_json",
    "write_rule",
    "write_transaction",
]
