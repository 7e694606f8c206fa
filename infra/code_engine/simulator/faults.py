"""What goes wrong on demand. No I/O."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from infra.code_engine.simulator.checks import Refused

ANSWERS = ("unauthorized", "forbidden", "too_many", "broken")
TELLINGS = ("no_details", "no_status", "odd_word")
INSTANCES = ("never", "no_image", "die", "restart")


class Faults:
    """Each is set by its name; what counts requests is used up by them."""

    def __init__(self) -> None:
        self.left: Counter[str] = Counter()
        """How many requests have a fault of ANSWERS, or shown runs one of TELLINGS."""
        self.next: list[str] = []
        """The faults of the requests with a token that come next, one each; `none` for one that has none."""
        self.slow = 0.0
        """Seconds that every answer takes longer."""
        self.retry_after = "1"
        """What an answer 429 says: seconds or a date."""
        self.list: Any = None
        """What is answered in the place of a list of runs."""
        self.instances: set[str] = set()
        """Of INSTANCES: never start, for want of room or of an image; end at once; one is started a second time."""
        self.late: dict[int, float] = {}
        """Seconds that the instances of these numbers stay pending for longer."""

    def set(self, asked: Mapping[str, Any]) -> None:
        """Take what the door gives. Raises Refused for a name that nobody knows."""
        known = {*ANSWERS, *TELLINGS, "next", "slow", "retry_after", "list", "instances", "late"}
        unknown = [name for name in asked if name not in known]
        words = {*asked.get("instances", ()), *asked.get("next", ())} - {*INSTANCES, *ANSWERS, "none"}
        if unknown or words:
            raise Refused(400, "unknown_fault", f"{', '.join([*unknown, *words])}: none of {', '.join(sorted(known))}")
        self.slow = float(asked.get("slow", self.slow))
        self.retry_after = str(asked.get("retry_after", self.retry_after))
        self.list = asked.get("list", self.list)
        self.next = list(asked.get("next", self.next))
        self.instances = set(asked.get("instances", self.instances))
        self.late = {int(index): float(seconds) for index, seconds in asked.get("late", self.late).items()}
        self.left.update({name: int(asked[name]) for name in (*ANSWERS, *TELLINGS) if name in asked})

    def take(self, kind: str) -> bool:
        """Whether this request, or this run's telling, has the fault."""
        if not self.left[kind]:
            return False
        self.left[kind] -= 1
        return True

    def arriving(self) -> None:
        """A request arrives. Raises Refused."""
        for kind in ("too_many", "broken"):
            if self.take(kind):
                self.refuse(kind)

    def entering(self) -> None:
        """A request to the project has shown its token. Raises Refused."""
        counted = next((kind for kind in ("unauthorized", "forbidden") if self.take(kind)), "none")
        self.refuse(self.next.pop(0) if self.next else counted)

    def refuse(self, kind: str) -> None:
        if kind == "unauthorized":
            raise Refused(401, "unauthorized", "the token is missing, unknown or has expired")
        if kind == "forbidden":
            raise Refused(403, "forbidden", "the key has no right to do that")
        if kind == "too_many":
            raise Refused(429, "too_many_requests", "slow down", {"Retry-After": self.retry_after})
        if kind == "broken":
            raise Refused(500, "internal_error", "something went wrong")

    def told(self, run: dict[str, Any]) -> dict[str, Any]:
        """A run as it is shown."""
        if self.take("no_details"):
            del run["status_details"]["indices_details"]
        if self.take("no_status"):
            run = {key: value for key, value in run.items() if key not in ("status", "status_details")}
        if self.take("odd_word"):
            run["status"] = "hibernating"
            for detail in run["status_details"].get("indices_details", {}).values():
                detail["status"] = "hibernating"
        return run
