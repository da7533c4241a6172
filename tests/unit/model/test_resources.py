"""What pods ask for."""

from shoal.model.container import Container, ResourceRequirements
from shoal.model.pod import PodSpec
from shoal.model.resources import Resources, of, pod_requests


def container(**requests: str) -> Container:
    return Container(resources=ResourceRequirements(requests=requests))


def test_quantities_become_whole_numbers() -> None:
    assert of({"cpu": "250m", "memory": "1Ki", "ephemeral-storage": "1k"}) == Resources(250, 1024, 1000)
    assert of({}) == Resources()


def test_containers_run_together_init_containers_before_them() -> None:
    spec = PodSpec(
        containers=(container(cpu="1", memory="1Gi"), container(cpu="500m")),
        init_containers=(container(cpu="1", memory="2Gi"), container(cpu="1")),
    )
    assert pod_requests(spec) == Resources(1500, 2 * 2**30)
