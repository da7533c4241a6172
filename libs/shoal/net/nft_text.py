"""nftables as text. No I/O: `nft.apply` runs it."""


def replace_table(family: str, name: str, body: str) -> str:
    """Text that makes the table anew, whatever there was before, in one transaction."""
    return f"table {family} {name} {{\n}}\ndelete table {family} {name}\ntable {family} {name} {{\n{body}\n}}\n"
