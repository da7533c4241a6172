"""What a benchmark returns, and how it is written down: always beside its yardstick, as a ratio."""

import datetime as dt
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path

import msgspec

RESULTS = Path(__file__).parent / "results.md"


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One row. `ours` and `yardstick` are samples in `unit`, taken in turn in the same run; `better` says which way."""

    name: str
    unit: str
    ours: tuple[float, ...]
    yardstick: tuple[float, ...] = ()
    yardstick_name: str = ""
    goal: str = ""
    met: bool | None = None
    bearable: bool = False  # not met, and within the most that is allowed
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return statistics.median(self.ours) / statistics.median(self.yardstick) if self.yardstick else None


def percentile(samples: Sequence[float], p: float) -> float:
    """The smallest sample that at least `p` percent of all do not exceed."""
    ranked = sorted(samples)
    return ranked[max(0, -(-len(ranked) * p // 100).__int__() - 1)]


def spread(samples: Sequence[float]) -> str:
    """`median (least to most)`; one sample stands alone."""
    if not samples:
        return "-"
    if len(samples) == 1:
        return f"{samples[0]:.4g}"
    return f"{statistics.median(samples):.4g} ({min(samples):.4g} to {max(samples):.4g})"


def table(figures: Sequence[Figure]) -> str:
    rows = ["| figure | unit | Shoal | yardstick | ratio | goal | met |", "|---|---|---|---|---|---|---|"]
    for f in figures:
        beside = f"{spread(f.yardstick)} {f.yardstick_name}" if f.yardstick else (f.yardstick_name or "-")
        met = {True: "yes", False: "no, within the most" if f.bearable else "**no**", None: "-"}[f.met]
        ratio = f"{f.ratio:.2f}" if f.ratio is not None else "-"
        rows.append(f"| {f.name} | {f.unit} | {spread(f.ours)} | {beside} | {ratio} | {f.goal or '-'} | {met} |")
    notes = [f"- {f.name}: {f.note}" for f in figures if f.note]
    return "\n".join([*rows, "", *notes])


def machine() -> str:
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    memory_gib = int(Path("/proc/meminfo").read_text().split()[1]) / 2**20
    cores = sum(line.startswith("processor") for line in Path("/proc/cpuinfo").read_text().splitlines())
    return (
        f"{cores} cores ({cpu}), {memory_gib:.0f} GiB, Linux {platform.release()}, Python {platform.python_version()}"
    )


def write(figures: Sequence[Figure], how: Sequence[str], path: Path = RESULTS) -> None:
    """Replace the results file. `how`: one sentence a line on how the figures were taken."""
    taken = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
    lines = [
        "# Figures",
        "",
        f"Written by `make bench` on {taken}; {machine()}. Medians (least to most) of rounds taken in turn with the",
        "yardstick in the same run: compare ratios, not times; another machine, or a busy one, gives other times.",
        "",
        table(figures),
        "",
        "## How they were taken",
        "",
        *(f"- {line}" for line in how),
        "",
    ]
    path.write_text("\n".join(lines))
