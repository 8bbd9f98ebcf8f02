"""``python -m nodeport_nft``."""

from nodeport_nft.cli import main

main()
