"""`shoal describe`: an object, what belongs to it, and its events, as text. Pure: everything is an argument.

The layout is kubectl's, line by line (k8s.io/kubectl/pkg/describe), with the tab stops of `output.tabwriter`.
"""
