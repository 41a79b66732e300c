"""Downloads: what to do with each file, receiving, verifying and committing it, and the ledger of all of them."""
