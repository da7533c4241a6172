"""`shoal lab`: several real Docker hosts on this machine, to try and to break."""
