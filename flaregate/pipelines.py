"""A pipeline as users build it: a DAG of named nodes. What it means is written in flaregate_wire.definitions."""

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import TypeAdapter, ValidationError

from flaregate import drawing
from flaregate.encoding import check_runnable, encode_code, encode_node, is_estimator
from flaregate.errors import Refused
from flaregate.parts import STACK_METHODS
from flaregate.payload import Staged, staged
from flaregate.signatures import function_signature
from flaregate.values import Stage
from flaregate_wire.definitions import EstimatorNode, FunctionNode, JoinNode, Name, Needs, Node, PipelineDefinition
from flaregate_wire.planning.checks import suggestion
from flaregate_wire.problems import Fault, faults_of

_NAME: TypeAdapter[str] = TypeAdapter(Name)
_PARTS = 2


@dataclass(frozen=True, slots=True)
class NodeRef:
    """A node of a pipeline, to be given to `after=` and `join`."""

    pipeline: "Pipeline"
    name: str

    def __repr__(self) -> str:
        return f"<node {self.name!r}>"


After = NodeRef | str


@dataclass(frozen=True, slots=True)
class _Made:
    """A node of a live object; it is encoded when the definition is asked for."""

    name: str
    obj: Any
    needs: Needs
    cache: bool
    stack_cv: Any
    stack_method: str

    def encoded(self, stage: Stage, *, cells: bool) -> EstimatorNode | FunctionNode:
        """The node on the wire; with `cells` its function is called with keywords alone."""
        try:
            node = encode_node(self.name, self.obj, stage)
        except Refused:
            raise
        except Exception as error:  # the user's get_params and properties are called
            message = f"node {self.name!r} cannot be looked at: {type(error).__name__}: {error}"
            raise _refused(message, "node") from error
        more: dict[str, Any] = {"needs": self.needs, "cache": self.cache}
        if cells and isinstance(node, FunctionNode):
            more["signature"] = function_signature(self.obj, rows=False)
        if isinstance(node, EstimatorNode):
            by_number = self.stack_cv is None or isinstance(self.stack_cv, int | str)
            stack_cv = self.stack_cv if by_number else encode_code(self.stack_cv, stage)
            more |= {"stack_cv": stack_cv, "stack_method": self.stack_method}
        return node.model_copy(update=more)


@dataclass(frozen=True, slots=True)
class _Joined:
    name: str
    of: tuple[str, ...]
    combine: Callable[[list[Any]], Any] | None


class Pipeline:
    """A DAG of estimators, functions and joins.

    Several nodes after one are alternatives: each is another path. A join waits for all its parts. The objects given
    are encoded when the pipeline is submitted or saved, and never changed.
    """

    def __init__(self, name: str = "pipeline") -> None:
        self.name = _checked_name(name)
        self._nodes: dict[str, _Made | _Joined | Node] = {}
        self._edges: list[tuple[str, str]] = []
        self._blobs: dict[str, Staged] = {}

    def node(  # noqa: PLR0913 - each is given by name, and has its default
        self,
        name: str,
        obj: Any,
        *,
        after: After | Iterable[After] | None = None,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        memory: int | None = None,
        timeout: float | None = None,
        retries: int = 0,
        cache: bool = True,
        stack_cv: Any = None,
        stack_method: Literal["auto", "predict_proba", "decision_function", "predict"] = "auto",
    ) -> NodeRef:
        """Add an estimator or a function `f(X, **params)`.

        Args:
            name: Free, `__` allowed; it must be new.
            obj: Any object with the scikit-learn contract, or a callable.
            after: The node that feeds it, or several: then it runs once for each of them. Without it, it takes X.
            num_cpus: vCPU of one task of it; 1 without it.
            num_gpus: GPUs of one task.
            memory: Bytes of one task.
            timeout: Seconds of one task; then its process is ended.
            retries: New tries of a task that killed its process or timed out.
            cache: Whether other jobs may use what it gave.
            stack_cv: Of an estimator in the middle: folds of the out-of-fold predictions that what follows is fitted
                on, a number or a splitter (default 5); `prefit` uses the object as it is.
            stack_method: Of an estimator in the middle: the method whose output is passed on.
        """
        check_runnable(self._new_name(name), obj)
        sources = [self._known(source, name) for source in _listed(after)]
        self._refuse_twice(name, sources)
        given = {"num_cpus": num_cpus, "num_gpus": num_gpus, "memory": memory, "timeout": timeout, "retries": retries}
        _check_stacking(name, obj, stack_cv, stack_method)
        self._nodes[name] = _Made(name, obj, _needs(name, given), cache, stack_cv, stack_method)
        self._edges.extend((source, name) for source in sources)
        return NodeRef(self, name)

    def join(self, name: str, of: Iterable[After], *, combine: Callable[[list[Any]], Any] | None = None) -> NodeRef:
        """Add a node that waits for all its parts and puts them side by side, or calls `combine(parts)`.

        Args:
            name: Free, `__` allowed; it must be new.
            of: At least two nodes; columns come in this order.
            combine: Gets the list of parts in the order of `of` and gives the new X.
        """
        self._new_name(name)
        parts = [self._known(part, name) for part in _listed(of)]
        self._refuse_twice(name, parts)
        if len(parts) < _PARTS:
            raise _refused(f"the join {name!r} has {len(parts)} part(s); it needs two at least", "join_parts")
        if combine is not None and not callable(combine):
            raise _refused(f"the join {name!r}: combine is {type(combine).__name__}, not a function", "combine")
        self._nodes[name] = _Joined(name, tuple(parts), combine)
        return NodeRef(self, name)

    def encoded(self, *, cells: bool = False) -> tuple[PipelineDefinition, dict[str, Staged]]:
        """The definition, and the payloads and arrays that it refers to, by their sha256.

        With `cells` its functions are called as a sweep calls them, `f(**axes)`.
        """
        blobs = dict(self._blobs)

        def stage(item: Staged) -> str:
            blobs[item.sha256] = item
            return item.sha256

        nodes: list[Node] = []
        for node in self._nodes.values():
            if isinstance(node, _Made):
                nodes.append(node.encoded(stage, cells=cells))
            elif isinstance(node, _Joined):
                combine = None if node.combine is None else encode_code(node.combine, stage)
                nodes.append(JoinNode(name=node.name, kind="join", of=node.of, combine=combine))
            else:
                open_to_all = cells and isinstance(node, FunctionNode)
                nodes.append(node.model_copy(update={"signature": None}) if open_to_all else node)
        if not nodes:
            raise _refused(f"the pipeline {self.name!r} has no nodes; add one with pipe.node(name, estimator)", "empty")
        return PipelineDefinition(name=self.name, nodes=tuple(nodes), edges=tuple(self._edges)), blobs

    def estimators(self) -> dict[str, Any]:
        """By the names of their nodes, the estimators that were given as objects."""
        made = (node for node in self._nodes.values() if isinstance(node, _Made))
        return {node.name: node.obj for node in made if is_estimator(node.obj)}

    def to_dict(self) -> dict[str, Any]:
        """The definition as plain JSON, with its payloads in a table of its own."""
        definition, blobs = self.encoded()
        body: dict[str, Any] = definition.model_dump(mode="json", by_alias=True, exclude_none=True)
        if blobs:
            body["payloads"] = {
                sha256: {"media_type": item.media_type, "data": base64.b64encode(item.read()).decode()}
                for sha256, item in sorted(blobs.items())
            }
        return body

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> "Pipeline":
        """The pipeline of a definition; nothing is imported or unpickled."""
        rest = {key: value for key, value in body.items() if key != "payloads"}
        try:
            definition = PipelineDefinition.model_validate(rest)
        except ValidationError as error:
            raise Refused.for_validation(error) from error
        made = cls(definition.name)
        for node in definition.nodes:
            made._nodes[made._new_name(node.name)] = node
        made._edges.extend(definition.edges)
        made._blobs.update(_payloads(body.get("payloads", {})))
        return made

    def save(self, path: str | Path) -> None:
        """Write the definition: YAML where the name ends in .yaml or .yml, else JSON."""
        body = self.to_dict()
        yamlish = Path(path).suffix in (".yaml", ".yml")
        text = yaml.safe_dump(body, sort_keys=False, allow_unicode=True) if yamlish else json.dumps(body, indent=2)
        Path(path).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "Pipeline":
        """Read a definition, YAML or JSON; nothing is imported or unpickled."""
        text = Path(path).read_text(encoding="utf-8")
        try:
            body = json.loads(text) if Path(path).suffix == ".json" else yaml.safe_load(text)
        except (json.JSONDecodeError, yaml.YAMLError) as error:
            raise _refused(f"{path} is neither JSON nor YAML: {error}", "file") from error
        if not isinstance(body, dict):
            raise _refused(f"{path} holds no pipeline", "file")
        return cls.from_dict(body)

    def draw(self, form: Literal["text", "svg"] = "text") -> str:
        """A picture: one line a node, or SVG."""
        definition, _ = self.encoded()
        return drawing.as_svg(definition) if form == "svg" else drawing.as_text(definition)

    def __repr__(self) -> str:
        return f"<Pipeline {self.name!r}: {', '.join(self._nodes)}>"

    def _new_name(self, name: str) -> str:
        if _checked_name(name) in self._nodes:
            raise _refused(f"two nodes are called {name!r}; give each a name of its own", "duplicate_node")
        return name

    def _known(self, source: After, name: str) -> str:
        if isinstance(source, NodeRef):
            if source.pipeline is not self:
                other = source.pipeline.name
                raise _refused(
                    f"node {name!r} comes after {source.name!r} of another pipeline ({other!r})", "foreign_node"
                )
            return source.name
        if not isinstance(source, str):
            raise _refused(f"node {name!r} comes after a {type(source).__name__}, which is no node", "unknown_node")
        if source not in self._nodes:
            message = f"node {name!r} comes after {source!r}, which is no node{suggestion(source, self._nodes)}"
            raise _refused(message, "unknown_node")
        return source

    @staticmethod
    def _refuse_twice(name: str, sources: Sequence[str]) -> None:
        twice = next((source for place, source in enumerate(sources) if source in sources[:place]), None)
        if twice is not None:
            raise _refused(f"node {name!r} names {twice!r} twice; name it once", "duplicate_edge")


def _listed(after: After | Iterable[After] | None) -> list[After]:
    if after is None:
        return []
    return [after] if isinstance(after, NodeRef | str) else list(after)


def _refused(message: str, rule: str) -> Refused:
    return Refused(message, errors=[Fault(pointer="/pipeline", rule=rule, message=message)])


def _needs(name: str, given: Mapping[str, Any]) -> Needs:
    try:
        return Needs.model_validate(given)
    except ValidationError as error:
        wrong = "; ".join(fault.message for fault in faults_of(error))
        raise _refused(f"node {name!r}: {wrong}", "needs") from error


def _check_stacking(name: str, obj: Any, stack_cv: Any, stack_method: str) -> None:
    if stack_method not in ("auto", *STACK_METHODS):
        known = ", ".join(map(repr, ("auto", *STACK_METHODS)))
        raise _refused(f"node {name!r}: stack_method is {stack_method!r}; give one of {known}", "stack_method")
    if stack_cv is None or (stack_cv == "prefit" if isinstance(stack_cv, str) else hasattr(stack_cv, "split")):
        fits = True
    else:
        fits = isinstance(stack_cv, int) and not isinstance(stack_cv, bool) and stack_cv >= _PARTS
    if not fits:
        message = f"node {name!r}: stack_cv is {stack_cv!r}; give a number of folds from 2, a splitter or 'prefit'"
        raise _refused(message, "stack_cv")
    if (stack_cv is not None or stack_method != "auto") and not is_estimator(obj):
        raise _refused(f"node {name!r} is a function; only estimators are stacked", "stack_cv")


def _checked_name(name: str) -> str:
    try:
        return _NAME.validate_python(name, strict=True)
    except ValidationError as error:
        raise _refused(f"{name!r} is no name: 1 to 100 printable characters, no space at its ends", "name") from error


def _payloads(table: Any) -> dict[str, Staged]:
    found = {}
    try:
        for sha256, entry in table.items():
            item = staged(entry["media_type"], base64.b64decode(entry["data"], validate=True))
            if item.sha256 != sha256:
                raise _refused(f"the payload {sha256} is not what its name says", "payload")
            found[sha256] = item
    except (AttributeError, KeyError, TypeError, binascii.Error) as error:
        raise _refused(f"the table of payloads cannot be read: {error!r}", "payload") from error
    return found
