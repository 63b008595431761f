"""The benchmarks that airspeed velocity tracks: `asv check`, `asv run --quick --python=same`."""
