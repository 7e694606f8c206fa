from flaregate.testing.in_process import InProcessClient, InProcessJob
from flaregate.testing.ran import Left, Ran, RunJob

__all__ = ["InProcessClient", "InProcessJob", "Left", "Ran", "RunJob"]
