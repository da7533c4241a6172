"""Fields that Kubernetes (up to 1.37) has and Shoal does not support (yet): each is refused by name with this one sentence.

Together with the structs this is the whole of Kubernetes' Pod; `model.support` prints both as one table.
"""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from shoal.model.container import Container, ContainerPort, EnvVarSource, ResourceRequirements
from shoal.model.node import NodeSpec
from shoal.model.pod import PodSpec
from shoal.model.security import PodSecurityContext, SeccompProfile, SecurityContext
from shoal.model.volume import EmptyDirVolumeSource, Volume, VolumeMount

_PROBES = "health checks come with a later release"
_CONFIGURATION = "configuration (ConfigMaps, Secrets) comes with a later release"
_CLAIMS = "persistent volumes come with a later release"
_AFFINITY = "affinity and topology spread come with a later release; nodeSelector and tolerations work now"
_DEVICES = "dynamic resource allocation is not supported"
_SERVICES = "it needs names of services, which come with a later release"
_WINDOWS = "nodes run Linux"
_DRIVER = "volumes of this driver are not supported; mount it on the hosts and use hostPath"

UNSUPPORTED: Mapping[type[msgspec.Struct], Mapping[str, str]] = MappingProxyType(
    {
        PodSpec: {
            "activeDeadlineSeconds": "deadlines come with Jobs, in a later release",
            "affinity": _AFFINITY,
            "ephemeralContainers": "debug containers are never part of a manifest, and come with a later release",
            "evictionResponders": "nothing is evicted by request yet",
            "hostUsers": "user namespaces are the engine's to set (dockerd --userns-remap)",
            "hostnameOverride": "it comes with a later release; hostname works now",
            "imagePullSecrets": f"{_CONFIGURATION}; until then the host's Docker credentials are used",
            "overhead": "it is set by a RuntimeClass, which is not supported",
            "readinessGates": _PROBES,
            "resourceClaims": _DEVICES,
            "resources": "resources of a whole pod are not supported; give them to its containers",
            "runtimeClassName": "the engine's default runtime is used",
            "schedulingGroup": "groups of pods are not scheduled as one",
            "setHostnameAsFQDN": _SERVICES,
            "subdomain": _SERVICES,
            "topologySpreadConstraints": f"{_AFFINITY}, and replicas are spread anyway",
            "workloadRef": "groups of pods are not scheduled as one",
        },
        Container: {
            "envFrom": _CONFIGURATION,
            "lifecycle": "hooks (postStart, preStop) come with a later release",
            "livenessProbe": _PROBES,
            "readinessProbe": _PROBES,
            "resizePolicy": "a changed size makes a new pod",
            "restartPolicy": "sidecars among the init containers come with a later release; the pod's restartPolicy holds",
            "restartPolicyRules": "the pod's restartPolicy holds for all exit codes",
            "startupProbe": _PROBES,
            "volumeDevices": "raw block devices are not supported",
        },
        EnvVarSource: {
            "configMapKeyRef": _CONFIGURATION,
            "fileKeyRef": _CONFIGURATION,
            "resourceFieldRef": "it comes with a later release; write the value itself",
            "secretKeyRef": _CONFIGURATION,
        },
        ResourceRequirements: {"claims": _DEVICES},
        EmptyDirVolumeSource: {"mode": "the directory is open to all users of the pod"},
        VolumeMount: {
            "bindMountOptions": "the engine's mount options hold",
            "recursiveReadOnly": "the engine has no recursive read-only mounts",
            "subPathExpr": "it comes with a later release; subPath works now",
        },
        Volume: {
            "awsElasticBlockStore": _DRIVER,
            "azureDisk": _DRIVER,
            "azureFile": _DRIVER,
            "cephfs": _DRIVER,
            "cinder": _DRIVER,
            "configMap": _CONFIGURATION,
            "csi": _DRIVER,
            "downwardAPI": f"{_CONFIGURATION}; fields of the pod are to be had by env",
            "ephemeral": _CLAIMS,
            "fc": _DRIVER,
            "flexVolume": _DRIVER,
            "flocker": _DRIVER,
            "gcePersistentDisk": _DRIVER,
            "gitRepo": "removed from Kubernetes for its security; clone in an init container",
            "glusterfs": _DRIVER,
            "image": "images as volumes are not supported; copy from an init container",
            "iscsi": _DRIVER,
            "nfs": _DRIVER,
            "persistentVolumeClaim": _CLAIMS,
            "photonPersistentDisk": _DRIVER,
            "portworxVolume": _DRIVER,
            "projected": _CONFIGURATION,
            "quobyte": _DRIVER,
            "rbd": _DRIVER,
            "scaleIO": _DRIVER,
            "secret": _CONFIGURATION,
            "storageos": _DRIVER,
            "vsphereVolume": _DRIVER,
        },
        PodSecurityContext: {
            "seLinuxChangePolicy": "volumes are never relabelled",
            "supplementalGroupsPolicy": "the groups that the image gives a user are always kept (Merge)",
            "windowsOptions": _WINDOWS,
        },
        SecurityContext: {
            "procMount": "the engine decides what of /proc is masked; privileged containers see all of it",
            "windowsOptions": _WINDOWS,
        },
        NodeSpec: {
            "configSource": "removed from Kubernetes",
            "externalID": "removed from Kubernetes; use providerID",
        },
    }
)

# Values that Kubernetes knows and Shoal does not, by field.
UNSUPPORTED_VALUES: Mapping[tuple[type[msgspec.Struct], str], Mapping[str, str]] = MappingProxyType(
    {
        (ContainerPort, "protocol"): {"SCTP": "the engine's hosts forward TCP and UDP alone"},
        (EmptyDirVolumeSource, "medium"): {"HugePages": "huge pages are not supported; use Memory"},
        (SeccompProfile, "type"): {
            "Localhost": "profiles of a host are not supported; use RuntimeDefault or Unconfined"
        },
    }
)

# Values of unsupported fields that say nothing: they are taken as absent, since tools write them.
_INERT: Mapping[str, tuple[object, ...]] = MappingProxyType(
    {
        "affinity": ({},),
        "hostUsers": (True,),
        "lifecycle": ({},),
        "overhead": ({},),
        "procMount": ("Default",),
        "recursiveReadOnly": ("Disabled",),
        "resources": ({},),
        "runtimeClassName": ("",),
        "setHostnameAsFQDN": (False,),
        "subdomain": ("",),
        "subPathExpr": ("",),
        "supplementalGroupsPolicy": ("Merge",),
    }
)


def reason_for(of: type[msgspec.Struct], wire: str) -> str | None:
    """Why this field of Kubernetes is refused, None if Kubernetes has no such field here."""
    return UNSUPPORTED.get(of, {}).get(wire)


def says_nothing(wire: str, value: object) -> bool:
    return value == [] or any(value is v or (value == v and type(value) is type(v)) for v in _INERT.get(wire, ()))
