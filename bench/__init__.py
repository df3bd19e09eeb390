"""The benchmarks: `python -m bench`. docs/performance.md says what each row means and how it is measured."""
