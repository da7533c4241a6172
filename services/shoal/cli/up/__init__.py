"""`shoal up`, `shoal down` and `shoal env`: a whole cluster on this machine."""
