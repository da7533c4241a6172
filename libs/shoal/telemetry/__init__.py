"""Logs (`logs`), traces (`trace`) and the loop's watchdog. Nothing is imported here: each costs what it costs."""
