"""What a struct's field says about itself beyond its type, in `Annotated[...]`: the one source for input checks, merge
keys, defaults and JSON schema.

A stored record is read leniently (two versions must read each other), so none of this is enforced by msgspec's decoder:
`model.structure` enforces it on user input.
"""

from typing import Any

import msgspec

REQUIRED = msgspec.Meta(extra={"required": True})
QUANTITY = msgspec.Meta(
    extra={"format": "quantity"},
    extra_json_schema={"format": "quantity", "description": "a quantity, such as 500m, 1.5, 128Mi, 2G"},
)
TIME = msgspec.Meta(extra={"format": "time"}, extra_json_schema={"format": "date-time"})
PRESENCE = msgspec.Meta(extra={"presence": True})  # `{}` means something here (`emptyDir: {}`)


def one_of(*values: str) -> msgspec.Meta:
    """The values known today. Input is checked against them, stored records are not."""
    return msgspec.Meta(extra={"one_of": values}, extra_json_schema={"enum": list(values)})


def merge_key(*names: str, retain_keys: bool = False) -> msgspec.Meta:
    """Elements of this list with equal `names` are one element to a patch (Kubernetes' patchMergeKey, the first name).

    `retain_keys`: what a patch does not mention in an element goes (the sources of a volume).
    """
    strategy = "merge,retainKeys" if retain_keys else "merge"
    return msgspec.Meta(
        extra={"merge_key": names, "retain_keys": retain_keys},
        extra_json_schema={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": list(names),
            "x-kubernetes-patch-merge-key": names[0],
            "x-kubernetes-patch-strategy": strategy,
        },
    )


MERGE_SET = msgspec.Meta(
    extra={"merge_key": ()},  # a list of plain values that a patch treats as a set
    extra_json_schema={"x-kubernetes-list-type": "set", "x-kubernetes-patch-strategy": "merge"},
)


def at_least(low: int, high: int | None = None) -> msgspec.Meta:
    schema: dict[str, Any] = {"minimum": low}
    if high is not None:
        schema["maximum"] = high
    return msgspec.Meta(extra={"range": (low, high)}, extra_json_schema=schema)


PORT = at_least(1, 65535)
