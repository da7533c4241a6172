"""Each broken manifest gets its one clear sentence, from the api as from the durable stream, and changes nothing."""

from pathlib import Path

import pytest
from tests.e2e.world import manifest, pod

from shoal import wire
from shoal.client import Client

BROKEN = sorted((Path(__file__).parents[1] / "data/manifests/broken").glob("*.yaml"))


def expected(path: Path) -> str:
    return path.read_text().splitlines()[0].removeprefix("# expect: ")


def test_there_are_at_least_forty() -> None:
    assert len(BROKEN) >= 40


async def test_each_broken_manifest_gets_its_one_sentence_and_changes_nothing(client: Client, namespace: str) -> None:
    async def everything() -> list[bytes]:
        return [
            bytes(i) for kind in ("pods", "replicasets", "namespaces") for i in (await client.list(kind, None)).items
        ]

    before = await everything()
    for path in BROKEN:
        by_request = await client.apply(wire.ApplyRequest(manifest=path.read_text()))
        assert by_request.error is not None, path.name
        assert by_request.error.message == expected(path), path.name
        by_stream = await client.outcome(await client.publish(path.read_text()))
        assert by_stream.error is not None, path.name
        assert by_stream.error.message == expected(path), path.name
    assert await everything() == before


async def test_a_good_document_beside_a_broken_one_is_not_applied(client: Client, namespace: str) -> None:
    good = manifest(pod("good", namespace))
    broken = next(p for p in BROKEN if p.stem == "missing-image").read_text()
    reply = await client.apply(wire.ApplyRequest(manifest=f"{good}\n---\n{broken}"))
    assert reply.error is not None
    assert (await client.list("pods", namespace)).items == []


@pytest.mark.parametrize(
    "poison", [b"\xff\xfe\x00", b"{" * 100_000, b"a: &a [x]\n" + b"b: [*a, *a]\n" * 9, b"", b"\x00" * 1000]
)
async def test_a_poison_message_never_blocks_the_next(client: Client, namespace: str, poison: bytes) -> None:
    first = await client.publish(poison)
    second = await client.publish(manifest(pod("after", namespace, nodeSelector={"no": "node"})))
    assert (await client.outcome(second)).error is None
    outcome = await client.outcome(first)
    assert outcome.error is not None or outcome.results == []
    await client.delete("pods", namespace, wire.DeleteRequest(name="after"))
