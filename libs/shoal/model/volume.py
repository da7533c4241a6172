"""Volumes of a pod. Exactly one source is set; the sources that are not here are refused by name (`model.unsupported`)."""

from typing import Annotated

from shoal.model.field import PRESENCE, QUANTITY, REQUIRED, one_of
from shoal.model.meta import Record


class EmptyDirVolumeSource(Record, frozen=True, kw_only=True):
    """Lives and dies with its pod. `medium` "" is the node's disk, Memory a tmpfs."""

    medium: Annotated[str, one_of("", "Memory")] = ""
    size_limit: Annotated[str, QUANTITY] = ""


HOST_PATH_TYPES = (
    "",  # no check
    "DirectoryOrCreate",
    "Directory",
    "FileOrCreate",
    "File",
    "Socket",
    "CharDevice",
    "BlockDevice",
)


class HostPathVolumeSource(Record, frozen=True, kw_only=True):
    path: Annotated[str, REQUIRED] = ""
    type: Annotated[str, one_of(*HOST_PATH_TYPES)] = ""


class Volume(Record, frozen=True, kw_only=True):
    name: Annotated[str, REQUIRED] = ""
    empty_dir: Annotated[EmptyDirVolumeSource, PRESENCE] | None = None
    host_path: Annotated[HostPathVolumeSource, PRESENCE] | None = None


class VolumeMount(Record, frozen=True, kw_only=True):
    name: Annotated[str, REQUIRED] = ""
    mount_path: Annotated[str, REQUIRED] = ""
    sub_path: str = ""
    read_only: bool = False
    mount_propagation: Annotated[str, one_of("None", "HostToContainer", "Bidirectional")] = ""
