"""Security contexts of pods and containers, as far as the engine has them (`model.unsupported` names the rest).

None means: not said. What a container says wins over what its pod says; `effective` joins the two.
"""

from typing import Annotated

import msgspec

from shoal.model.field import REQUIRED, at_least, merge_key, one_of
from shoal.model.meta import Record

_ID = at_least(0, 2**31 - 1)


class SELinuxOptions(Record, frozen=True, kw_only=True):
    user: str = ""
    role: str = ""
    type: str = ""
    level: str = ""


class SeccompProfile(Record, frozen=True, kw_only=True):
    """`localhost_profile`: a file below the agent's seccomp directory, only with type Localhost (not supported)."""

    type: Annotated[str, REQUIRED, one_of("RuntimeDefault", "Unconfined")] = ""
    localhost_profile: str = ""


class AppArmorProfile(Record, frozen=True, kw_only=True):
    """`localhost_profile`: a profile loaded on the host, only with type Localhost."""

    type: Annotated[str, REQUIRED, one_of("RuntimeDefault", "Unconfined", "Localhost")] = ""
    localhost_profile: str = ""


class Capabilities(Record, frozen=True, kw_only=True):
    """Names without `CAP_`; `ALL` is every one."""

    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


class Sysctl(Record, frozen=True, kw_only=True):
    name: Annotated[str, REQUIRED] = ""
    value: Annotated[str, REQUIRED] = ""


class PodSecurityContext(Record, frozen=True, kw_only=True):
    run_as_user: Annotated[int, _ID] | None = None
    run_as_group: Annotated[int, _ID] | None = None
    run_as_non_root: bool | None = None
    supplemental_groups: tuple[Annotated[int, _ID], ...] = ()
    fs_group: Annotated[int, _ID] | None = None
    fs_group_change_policy: Annotated[str, one_of("Always", "OnRootMismatch")] = ""
    sysctls: Annotated[tuple[Sysctl, ...], merge_key("name")] = ()
    seccomp_profile: SeccompProfile | None = None
    app_armor_profile: AppArmorProfile | None = None
    se_linux_options: SELinuxOptions | None = None


class SecurityContext(Record, frozen=True, kw_only=True):
    run_as_user: Annotated[int, _ID] | None = None
    run_as_group: Annotated[int, _ID] | None = None
    run_as_non_root: bool | None = None
    privileged: bool | None = None
    allow_privilege_escalation: bool | None = None
    read_only_root_filesystem: bool | None = None
    capabilities: Capabilities | None = None
    seccomp_profile: SeccompProfile | None = None
    app_armor_profile: AppArmorProfile | None = None
    se_linux_options: SELinuxOptions | None = None


_SHARED = ("run_as_user", "run_as_group", "run_as_non_root", "seccomp_profile", "app_armor_profile", "se_linux_options")


def effective(pod: PodSecurityContext | None, container: SecurityContext | None) -> SecurityContext:
    """What holds for a container: its own word, else its pod's."""
    own = container or SecurityContext()
    if pod is None:
        return own
    inherited = {name: getattr(pod, name) for name in _SHARED if getattr(own, name) is None}
    return msgspec.structs.replace(own, **inherited)
