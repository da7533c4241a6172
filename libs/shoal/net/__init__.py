"""The kernel's network, as far as Shoal plumbs it: netlink by hand, namespaces, nftables. Synchronous and small."""
