"""What SDK, gateway and worker say to each other. Needs pydantic and nothing else."""
