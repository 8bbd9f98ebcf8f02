"""nft's listings of our tables read as text: somebody else's word, to hold the reading over netlink against."""
