"""``python -m nodeport_nft``."""

from nodeport_nft.entry import main

main()
