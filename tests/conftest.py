"""What holds for the whole suite."""

import os

# Under pytest-xdist the workers share the cores: each, and the programs that it starts, computes with its share.
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    os.environ.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // int(workers), 1)))


def pytest_terminal_summary(terminalreporter):
    """Say how many cases were fuzzed, and of which seed."""
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, value in report.user_properties:
            if name == "fuzz":
                terminalreporter.write_line(f"fuzz: {value}")
