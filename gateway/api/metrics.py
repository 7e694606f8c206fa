"""The gateway's figures in Prometheus' text format. The one module that uses prometheus_client's collectors."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.jobs.figures import Figures


class _Collector(Collector):
    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        figures = self._figures
        jobs = GaugeMetricFamily("flaregate_jobs", "Jobs that this gateway works at, by state.", labels=["state"])
        for state, count in figures.held.items():
            jobs.add_metric([state], count)
        yield jobs
        gauges = {
            "platform_runs": (figures.platform_runs, "Runs that the platform says are alive."),
            "orphaned_runs": (figures.orphaned_runs, "Of these, runs that no live attempt owned at the last search."),
            "platform_barred": (
                int(figures.barred is not None),
                "Whether the platform refuses the gateway's credentials.",
            ),
            "jobs_waiting": (figures.waiting, "Jobs that wait for room on the platform."),
        }
        for name, (value, meaning) in gauges.items():
            yield GaugeMetricFamily(f"flaregate_{name}", meaning, value)
        counters = {
            "orphaned_runs_ended": (figures.orphans_ended, "Runs that were ended because no live attempt owned them."),
            "workers_replaced": (figures.workers_replaced, "Workers that were asked for in the place of lost ones."),
            "platform_unseen": (figures.platform_unseen, "Looks at the platform that got no answer."),
        }
        for name, (value, meaning) in counters.items():
            yield CounterMetricFamily(f"flaregate_{name}", meaning, value)


def exposed(figures: Figures) -> bytes:
    """The figures as Prometheus reads them."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(figures))
    return generate_latest(registry)
