"""The less common norms beside what users compose of NumPy calls and of PyTorch's operators, and a copy, in turns."""

from __future__ import annotations

from typing import Any

from fastnorm._bench.composed import cases

_SECONDS = 0.1  # per implementation and case

Results = dict[tuple[str, str], float]


class Composed:
    """Each implementation in a process of its own, its results compared with NumPy's before it is timed."""

    param_names = ["case", "implementation"]  # noqa: RUF012 (asv's way)
    params = (list(cases()), ["fastnorm", "NumPy", "PyTorch", "copy"])

    def setup_cache(self) -> Results:
        from fastnorm._bench.composed.race import Race

        results: Results = {}
        with Race() as field:
            for name in self.params[0]:
                for implementation, seconds in field.run(name, _SECONDS).seconds.items():
                    results[name, implementation] = seconds
        return results

    setup_cache.timeout = 3600  # type: ignore[attr-defined]

    def setup(self, results: Results, case: str, implementation: str) -> None:
        if (case, implementation) not in results:
            raise NotImplementedError("not installed, or nothing to compose it of")

    def track_time(self, results: Results, case: str, implementation: str) -> float:
        return results[case, implementation]

    def track_ratio(self, results: Results, case: str, implementation: str) -> float:
        return round(results[case, implementation] / results[case, "fastnorm"], 2)


def _unit(function: Any, unit: str) -> None:
    function.unit = unit


_unit(Composed.track_time, "seconds")
_unit(Composed.track_ratio, "times fastnorm's time")
