"""What a verb that changes an object prints: `pod/web created`, or the object, or its name."""

import msgspec

from shoal.cli.context import Context

DRY_RUN = {"client": " (dry run)", "server": " (server dry run)"}


def print_changed(
    context: Context, form: str, name: str, result: str, obj: msgspec.Raw | None = None, *, dry_run: str = "none"
) -> None:
    """`form`: "", name, json or yaml; the last two need the object."""
    if form in {"json", "yaml"} and obj is not None:
        from shoal.cli.output.text import to_json, to_yaml

        value = msgspec.json.decode(obj)
        context.write(to_json(value) if form == "json" else "---\n" + to_yaml(value))
    elif form == "name":
        context.write(f"{name}\n")
    else:
        context.write(f"{name} {result}{DRY_RUN.get(dry_run, '')}\n")
