"""A message with thousands of mistakes costs no more than one with a hundred."""

import time

import pytest

from shoal.model.manifest import parse
from shoal.model.problem import HINTS_MAX, PROBLEMS_MAX, ManifestErrors

ONE = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: a}]}\n"


@pytest.mark.parametrize(
    "text",
    [
        ONE + "\n".join(f"metadta{i}: 1" for i in range(5000)),
        ONE + "\n".join(f"replicas{i}x{'y' * 40}: 1" for i in range(5000)),
        "---\n".join([ONE + "sepc: 1\nmetadat: 1\n"] * 600),
        ONE + "status: {}\n? " + "x" * 200_000 + "\n: 1\n",
    ],
    ids=["fields", "far", "documents", "long"],
)
def test_thousands_of_unknown_fields(text: str) -> None:
    began = time.process_time()
    with pytest.raises(ManifestErrors) as caught:
        parse(text)
    assert time.process_time() - began < 1.5
    assert len(caught.value.problems) <= PROBLEMS_MAX + 10
    assert sum("did you mean" in p.hint for p in caught.value.problems) <= HINTS_MAX + 10


def test_ignored_fields_are_bounded_too() -> None:
    text = "\n---\n".join([ONE + "\n".join(f"metadta{i}: 1" for i in range(200))] * 5)
    began = time.process_time()
    documents = parse(text, ignore_unknown=True)
    assert time.process_time() - began < 1.5
    assert all(len(d.warnings) == PROBLEMS_MAX for d in documents)
    assert sum("did you mean" in w for d in documents for w in d.warnings) <= HINTS_MAX


def test_the_first_mistakes_keep_their_hints() -> None:
    with pytest.raises(ManifestErrors) as caught:
        parse(ONE + "sepc: 1\n" + "\n".join(f"x{i}: 1" for i in range(500)))
    assert caught.value.problems[0].hint == "did you mean spec?"
