from worker_image.ray_runner.cluster import Connection, connect, disconnect
from worker_image.ray_runner.runner import RayRunner

__all__ = ["Connection", "RayRunner", "connect", "disconnect"]
