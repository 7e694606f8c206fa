"""What a plan says of the cache: only what is there, readable, of this trust scope and of these very rows."""

import hashlib
import json

import pytest

from flaregate_wire.attempts import CacheObject
from flaregate_wire.definitions import JobDefinition
from flaregate_wire.planning import naming, plan
from flaregate_wire.planning.families import every_family, grow
from gateway.jobs.cache_index import Scope
from gateway.jobs.cached import LEAVES
from gateway.jobs.segments import BYTES

A, B, C = ("sha256:" + letter * 64 for letter in "abc")
MINE = Scope("default", "default")
FOLDS = tuple(f"fold {number}" for number in range(3))
SIGNATURE = {"params": ["n"], "abilities": ["predict", "transform", "score"], "type": "classifier"}
BLOB = CacheObject(key="tenants/default/cache/default/job-1-1/large", size=1, sha256="sha256:" + "0" * 64)


def blob(sha):
    return {"blob": sha, "media_type": "application/x-npy"}


def node(name, kind="estimator", **more):
    own = {"name": name, "kind": kind, "import": f"package:{name}", "code": "package==1.0", "signature": SIGNATURE}
    return {**own, **more}


def search(depths=(1, 2), nodes=(), edges=(("pca", "tree"),), **more):
    """Of one projection and some trees."""
    return {
        "pipeline": {"nodes": nodes or [node("pca"), node("tree")], "edges": edges},
        "action": "search",
        "inputs": {"X": blob(A), "y": blob(B)},
        "axes": [{"node": "tree", "param": "n", "values": list(depths)}],
        "cv": len(FOLDS),
        **more,
    }


class Run:
    """Names as a worker does what it has computed."""

    def __init__(self, definition, folds=FOLDS):
        self.definition = JobDefinition.model_validate(definition)
        self.folds = folds
        sources = range(max(1, len(self.definition.objects)))
        staged = [naming.known_contents(self.definition, source, "1.9.1") for source in sources]
        made = plan(self.definition)
        self.forest = grow(every_family(made))
        self.sources = sources
        rows = [naming.row_names(contents, "1.9.1", folds) for contents in staged]
        self.shelves = naming.Shelves(made, rows, naming.uncached(self.definition), "job-1")
        for unit in self.forest.above.values():
            for step in unit.steps:
                self.shelves.learn(step)

    def folds_known(self):
        report = {naming.FOLDS: list(self.folds)}
        return [
            (naming.folds_shelf(self.definition, source, "1.9.1"), naming.FOLDS, report, None)
            for source in self.sources
        ]

    def leaves(self, folds=None, blob=None):
        what = naming.purpose(self.definition)
        return [
            (
                self.shelves.leaf(family.leaf, source),
                naming.key(member.step.digest, naming.ending(fold, what)),
                {},
                blob,
            )
            for source in self.sources
            for family in self.forest.families
            for member in family.members(self.shelves.plan)
            for fold in folds or self.folds
        ]

    def parts(self, fold, blob=BLOB):
        """What the last step above the leaves passes on."""
        unit = list(self.forest.above.values())[-1]
        return [(self.shelves.step(unit.steps[-1], 0), naming.key(unit.digest, naming.ending(fold, "")), {}, blob)]


@pytest.fixture
def keep(still):
    async def keep(lines, scope=MINE, harm=None, objects=(), size=None):
        data = b"".join(
            json.dumps({"shelf": s, "key": k, "report": r, "blob": b and b.model_dump()}).encode() + b"\n"
            for s, k, r, b in lines
        )
        sha = hashlib.sha256(data).hexdigest()
        key = f"tenants/{scope.tenant}/cache/{scope.project}/job-1-1/{sha}"

        async def pieces():
            yield data if harm is None else harm(data)

        await still.store.put(key, pieces())
        segment = CacheObject(key=key, size=size or len(data), sha256=f"sha256:{sha}")
        shelves = [(shelf, key) for shelf in {line[0] for line in lines}]
        await still.repository.cache.keep(scope, ("job-1", "job-1-1"), [segment, *objects], shelves, still.clock())
        return key

    return keep


@pytest.fixture
def planned(still):
    async def planned(definition):
        answer = await still.http.post("/v1/jobs:plan", json=definition)
        assert answer.status_code == 200, answer.text
        return answer.json().get("tasks"), answer.json().get("cached")

    return planned


@pytest.fixture
def why(still):
    async def why(definition):
        answer = (await still.http.post("/v1/jobs:plan", json=definition)).json()
        assert answer.get("cached") is None
        return answer["cached_why"]

    return why


async def test_leaves_and_the_steps_that_nobody_needs(keep, planned):
    run = Run(search())
    assert await planned(search()) == (9, 0)
    await keep(run.folds_known())
    assert await planned(search()) == (9, 0)
    await keep(run.leaves(FOLDS[:1]))
    assert await planned(search()) == (9, 3)
    await keep(run.leaves(FOLDS[1:]))
    assert await planned(search()) == (9, 9)
    assert await planned(search((1, 2, 3))) == (12, 6)
    assert await planned(search((1, 2), return_train_score=True)) == (9, 0)


async def test_what_is_stored_spares_the_steps_above_it(keep, planned):
    nodes = [node("scale"), node("pca"), node("tree")]
    definition = search(nodes=nodes, edges=(("scale", "pca"), ("pca", "tree")))
    run = Run(definition)
    await keep(run.folds_known() + run.parts(FOLDS[0]))
    assert await planned(definition) == (12, 0)  # the large result itself is not there
    await keep(run.parts(FOLDS[1]), objects=[BLOB])
    assert await planned(definition) == (12, 4)


async def test_other_scopes_and_what_cannot_be_read_do_not_count(keep, planned):
    run = Run(search())
    await keep(run.folds_known())
    await keep(run.leaves(), scope=Scope("default", "other"))
    await keep(run.leaves(), scope=Scope("other", "default"))
    assert await planned(search()) == (9, 0)
    assert (await planned(search(project="other")))[1] == 0  # its folds are not known there
    await keep([*run.leaves(), ("no", "such", [], None)], harm=lambda data: data[:-1])
    assert await planned(search()) == (9, 0)
    await keep([*run.leaves(), ("no", "such", "report", None)])  # a line that is none
    assert await planned(search()) == (9, 9)


async def test_a_segment_that_is_gone_does_not_count(keep, planned, still):
    run = Run(search())
    await keep(run.folds_known())
    await still.store.delete(await keep(run.leaves()))
    assert await planned(search()) == (9, 0)


async def test_what_is_not_shared_does_not_count(keep, planned):
    definition = search(nodes=[node("pca", cache=False), node("tree")])
    run = Run(definition)
    await keep(run.folds_known() + run.leaves())
    assert await planned(definition) == (9, 0)
    assert await planned(search()) == (9, 0)


async def test_two_nodes_that_do_the_same_are_counted_by_their_own_values(keep, planned):
    nodes = [{**node(name), "import": "package:same"} for name in ("one", "other")]
    axes = [{"node": name, "param": "n", "values": values} for name, values in (("one", [1, 2]), ("other", [1, 3]))]
    definition = search(nodes=nodes, edges=(), axes=axes)
    run = Run({**definition, "pipeline": {"nodes": nodes[:1]}, "axes": axes[:1]})
    await keep(run.folds_known() + run.leaves())
    assert await planned(definition) == (12, 9)


async def test_each_source_object_is_counted(keep, planned):
    objects = [{"name": "a", "X": blob(A), "y": blob(B)}, {"name": "b", "X": blob(C), "y": blob(B)}]
    run = Run(search())
    await keep(run.folds_known() + run.leaves())
    assert await planned(search(inputs={}, objects=objects)) == (18, 9)


@pytest.mark.parametrize("action", ["fit", "sweep", "predict"])
async def test_what_is_done_with_all_rows(keep, planned, action):
    nodes = {
        "fit": [node("tree")],
        "sweep": [node("tree", kind="function")],
        "predict": [{"name": "tree", "kind": "model", "source": blob(C)}],
    }
    inputs = {} if action == "sweep" else {"X": blob(A)} if action == "predict" else {"X": blob(A), "y": blob(B)}
    definition = search(nodes=nodes[action], edges=(), axes=[], cv=None, action=action, inputs=inputs)
    assert await planned(definition) == (1, 0)
    await keep(Run(definition, (naming.ALL,)).leaves(), objects=[])
    assert await planned(definition) == (1, 1)


async def test_a_file_that_is_gone_is_made_again(keep, planned):
    definition = search(axes=[], cv=None, action="fit")
    run = Run(definition, (naming.ALL,))
    await keep(run.leaves(blob=BLOB))
    assert await planned(definition) == (2, 0)
    await keep(run.parts(naming.ALL), objects=[BLOB])
    assert await planned(definition) == (2, 2)


async def test_data_that_comes_with_scikit_learn_is_known_by_its_name(keep, planned):
    def of(loader):
        return {"inputs": {"X": {"dataset": loader}, "y": {"dataset": loader, "part": "target"}}}

    run = Run(search(**of("sklearn.datasets:load_iris")))
    await keep(run.folds_known() + run.leaves())
    assert await planned(search(**of("sklearn.datasets:load_iris"))) == (9, 9)
    assert await planned(search(**of("sklearn.datasets:load_wine"))) == (9, 0)
    assert await planned(search(**of("sklearn.datasets:load_files"))) == (9, None)


async def test_what_is_too_much_or_not_known_yet_is_not_said_but_why(keep, planned, why):
    many = search(range(LEAVES // len(FOLDS) + 1))
    await keep(Run(many).folds_known())
    assert await why(many) == "there are more than 50000 candidates × folds"
    run = Run(search())
    await keep(run.leaves(), size=BYTES + 1)
    assert await planned(search()) == (9, None)
    assert await why(search()) == "it is too much to look through"
    assert await why(search(cv={"import": "package:Splitter"})) == "its splitter is called by the job"
    shuffled = {"import": "sklearn.model_selection:KFold", "params": {"shuffle": True}}
    assert await why(search(cv=shuffled)) == "its splitter draws without a seed"
    unsigned = search(nodes=[node("pca"), node("tree", signature=None)], axes=[])
    assert await why(unsigned) == "how the rows are cut depends on a last node that only the job can look at"
    assert (
        await why(search(inputs={"X": {"dataset": "package:load"}, "y": blob(B)}))
        == "only the job can tell what X holds"
    )
    assert await why(search(strategy="halving", halving={})) == "halving chooses its candidates as it goes"
