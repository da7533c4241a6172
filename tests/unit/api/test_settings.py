"""What the api is told by its environment."""

import pytest

from shoal.api.service import Settings, settings
from shoal.config import bus_config
from shoal.errors import Invalid


def test_nothing_said_is_the_default() -> None:
    assert settings({}) == settings({"SHOAL_CLUSTER_CIDR": "", "SHOAL_NODE_MASK": ""}) == Settings()
    assert bus_config({}).replicas == 1


def test_what_is_said_is_taken() -> None:
    env = {"SHOAL_CLUSTER_CIDR": "10.0.0.0/16", "SHOAL_NODE_MASK": "24", "SHOAL_REPLICAS": "3"}
    assert settings(env) == Settings(cluster_cidr="10.0.0.0/16", node_mask=24)
    assert bus_config(env).replicas == 3


@pytest.mark.parametrize("text", ["x", "-1", "2.5", "²"])
def test_nonsense_is_refused_by_name(text: str) -> None:
    with pytest.raises(Invalid, match="SHOAL_NODE_MASK"):
        settings({"SHOAL_NODE_MASK": text})
    with pytest.raises(Invalid, match="SHOAL_REPLICAS"):
        bus_config({"SHOAL_REPLICAS": text})
