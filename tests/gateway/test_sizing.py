"""What is launched for a job where containers cannot reach each other: one, or nothing and a word on which field."""

from dataclasses import replace

import pytest

from flaregate_wire.definitions import Resources
from flaregate_wire.planning import Counts
from gateway.jobs.errors import InvalidDefinition
from gateway.jobs.sizing import choose
from gateway.launchers.base import Capabilities

GB = 10**9
SIZES = ((1, 2 * GB), (4, 8 * GB), (12, 24 * GB))
LIMITS = {"max_cpus": 128, "max_memory": 512 * GB, "gpus": 0, "lease": 600}
APART = Capabilities(name="apart", peer_tcp=False, sizes=SIZES, **LIMITS)
MANY = Counts(candidates=10_000, folds=5, steps={"tree": 10_000})


@pytest.mark.parametrize(
    ("asked", "cpus"), [({}, 12), ({"cpus": 3}, 4), ({"cpus": 12, "workers": 0}, 12), ({"topology": "single"}, 12)]
)
def test_a_job_of_any_length_has_one_container_with_its_own_cpus(asked, cpus):
    cluster = choose(Resources(**asked), MANY, APART)
    assert (cluster.topology, cluster.instances, cluster.cpus) == ("single", 1, cpus)
    assert (cluster.topology, choose(Resources(**asked), MANY, replace(APART, sizes=())).instances) == ("single", 1)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"workers": 2}, "workers"),
        ({"workers": 2, "min_workers": 1}, "workers"),
        ({"min_workers": 1}, "min_workers"),
        ({"topology": "cluster"}, "topology"),
    ],
)
def test_a_job_that_asks_for_workers_is_refused_with_the_field_and_what_to_do(asked, field):
    with pytest.raises(InvalidDefinition) as refused:
        choose(Resources(**asked), MANY, APART)
    (fault,) = refused.value.errors
    assert (fault.pointer, fault.rule) == (f"/resources/{field}", "no_peer_tcp")
    assert f"resources.{field} asks for workers, and containers of 'apart' cannot reach each other" in fault.message
    assert fault.message.endswith("as many CPUs of one container with resources.cpus; the largest has 12")
