"""What an API server makes of a Job before it keeps it: is it allowed, is it right, and its quantities in their one form."""

import re
from decimal import Decimal
from pathlib import Path

import yaml

RIGHTS = Path(__file__).parents[2] / "infra" / "kubernetes" / "rights.yaml"
ACCOUNT = "system:serviceaccount:flaregate:flaregate-gateway"
GROUPS = {"jobs": "batch", "pods": ""}
VERBS = {("POST", False): "create", ("GET", False): "list"} | {
    (method, True): verb for method, verb in (("GET", "get"), ("DELETE", "delete"), ("PATCH", "patch"))
}
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_SUFFIXES = {"E": 18, "P": 15, "T": 12, "G": 9, "M": 6, "k": 3, "": 0, "m": -3}


def role():
    """Kinds and verbs that the gateway's Role has."""
    (found,) = (one for one in yaml.safe_load_all(RIGHTS.read_text()) if one["kind"] == "Role")
    return {(kind, verb) for rule in found["rules"] for kind in rule["resources"] for verb in rule["verbs"]}


def plural(kind):
    """As the server calls it."""
    return ".".join(filter(None, (kind, GROUPS[kind])))


def forbidden(method, kind, name, namespace):
    verb = VERBS.get((method, name is not None), method.lower())
    named = f' "{name}"' if name else ""
    return (
        f'{plural(kind)}{named} is forbidden: User "{ACCOUNT}" cannot {verb} resource "{kind}" '
        f'in API group "{GROUPS[kind]}" in the namespace "{namespace}"'
    )


def wrong(job):
    """The first thing in a Job that is refused, if any."""
    name, pod = job["metadata"]["name"], job["spec"]["template"]["spec"]
    if not _NAME.fullmatch(name):
        return f'metadata.name: Invalid value: "{name}"'
    for place, labels in (
        ("metadata.labels", job["metadata"]["labels"]),
        ("nodeSelector", pod.get("nodeSelector", {})),
    ):
        for value in labels.values():
            if not _LABEL.fullmatch(value):
                return f'spec.template.spec.{place}: Invalid value: "{value}"'
    if not all(one.get("image") for one in pod["containers"]):
        return "spec.template.spec.containers[0].image: Required value"
    return None


def settle(job):
    """Write the sizes as the server does: 0.5 is 500m, 1500000000 is 1500M."""
    pod = job["spec"]["template"]["spec"]
    sizes = [size for one in pod["containers"] for size in one.get("resources", {}).values()]
    sizes += [one["emptyDir"] for one in pod.get("volumes", ()) if "sizeLimit" in one.get("emptyDir", {})]
    for size in sizes:
        size |= {key: _canonical(value) for key, value in size.items() if key != "medium"}


def _canonical(given):
    number = Decimal(given)
    return next(f"{int(number.scaleb(-by))}{suffix}" for suffix, by in _SUFFIXES.items() if not number.scaleb(-by) % 1)
