"""What an object may say of its owners. Pure."""

from shoal.errors import Invalid, ShoalError
from shoal.model.meta import Object, OwnerReference
from shoal.model.registry import kind_of, kind_of_object


def check_owners(obj: Object, before: tuple[OwnerReference, ...] = ()) -> None:
    """`before`: the references it has; with one that should never have been an object can still be changed.

    Kubernetes takes such a reference, and its garbage collector only warns of it.

    Raises: Invalid for a new owner that lies in a namespace where the object itself lies in none.
    """
    if kind_of_object(obj).namespaced:
        return
    known = {reference.uid for reference in before}
    for i, reference in enumerate(obj.metadata.owner_references):
        if reference.uid not in known and _namespaced(reference):
            raise Invalid(
                f"a {obj.kind} lies in no namespace and cannot belong to a {reference.kind}, which lies in one",
                path=f"metadata.ownerReferences[{i}]",
            )


def _namespaced(reference: OwnerReference) -> bool:
    try:
        return kind_of(reference.api_version, reference.kind).namespaced
    except ShoalError:
        return False  # nobody here knows
