"""AWS Batch by moto, whose jobs are real containers of Podman.

moto 5.2 leaves out of multi-node jobs what is added here, in the server's own process: the overrides of a submission,
the variables that tell a node its number, and what `DescribeJobs` says of single nodes. It still starts a job's
containers one after the other, without limits, and shows all nodes of a job in one state.
"""

import contextlib
import copy
import os
import sys
from pathlib import Path

import boto3

from tests.servers.processes import free_ports, running

QUEUE, REGION = "flaregate", "us-east-1"


@contextlib.contextmanager
def aws_batch(folder, podman, network):
    """A server with one queue; gives its URL."""
    (port,) = free_ports(1)
    given = {
        "DOCKER_HOST": f"unix://{podman.socket}",
        "MOTO_DOCKER_NETWORK_NAME": network,
        "BLIND": str(folder / "blind"),
    }
    command = ["env", *(f"{name}={value}" for name, value in given.items())]
    command += [sys.executable, "-m", "tests.servers.aws_batch", str(port)]
    with running(command, ports=[port], log=folder / "moto.log"):
        url = f"http://127.0.0.1:{port}"
        _queue(url)
        yield url


def client(url, service="batch"):
    return boto3.client(service, endpoint_url=url, region_name=REGION, aws_access_key_id="a", aws_secret_access_key="b")


def _queue(url):
    ec2, iam, batch = client(url, "ec2"), client(url, "iam"), client(url)
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    group = ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]
    role = iam.create_role(RoleName="batch", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    iam.create_instance_profile(InstanceProfileName="batch")
    profile = iam.get_instance_profile(InstanceProfileName="batch")["InstanceProfile"]["Arn"]
    resources = {
        "type": "EC2", "minvCpus": 0, "desiredvCpus": 0, "maxvCpus": 16, "instanceTypes": ["m5"], "instanceRole": profile,
        "subnets": [subnet], "securityGroupIds": [group],
    }  # fmt: skip
    made = batch.create_compute_environment(
        computeEnvironmentName="flaregate",
        type="MANAGED",
        state="ENABLED",
        computeResources=resources,
        serviceRole=role,
    )
    order = [{"order": 1, "computeEnvironment": made["computeEnvironmentArn"]}]
    batch.create_job_queue(jobQueueName=QUEUE, state="ENABLED", priority=1, computeEnvironmentOrder=order)


def serve(port):
    """In a process of its own, with what moto leaves out."""
    from moto.batch.models import BatchBackend
    from moto.batch.responses import BatchResponse
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import run_simple

    plain = BatchResponse.submitjob
    blind = Path(os.environ["BLIND"])

    def submitjob(self):
        overrides = self._get_param("nodeOverrides")
        if overrides is None:
            return plain(self)
        backend: BatchBackend = self.batch_backend
        job_definition = backend.get_job_definition(self._get_param("jobDefinition"))
        merged = copy.copy(job_definition)
        merged.node_properties = _merged(job_definition.node_properties, overrides)
        name, job, arn = backend.submit_job(
            self._get_param("jobName"), _kept(backend, merged), self._get_param("jobQueue"), array_properties={},
            timeout=self._get_param("timeout"), tags=self._get_param("tags"),
        )  # fmt: skip
        return f'{{"jobId": "{job}", "jobName": "{name}", "jobArn": "{arn}"}}'

    def _kept(backend, merged):
        merged.arn = f"{merged.arn}-{len(backend._job_definitions)}"
        backend._job_definitions[merged.arn] = merged
        return merged.arn

    plain_list = BatchResponse.listjobs

    def listjobs(self):
        import json

        told = json.loads(plain_list(self))
        for job in told["jobSummaryList"]:
            properties = self.batch_backend.get_job_by_id(job["jobId"]).job_definition.node_properties
            job["nodeProperties"] = {"isMainNode": False, "numNodes": properties["numNodes"]}
        return json.dumps(told)

    BatchResponse.submitjob, BatchResponse.listjobs = submitjob, listjobs
    moto = DomainDispatcherApplication(create_backend_app)

    def app(environ, start_response):
        if blind.exists():
            start_response("503 Service Unavailable", [("Content-Type", "application/json")])
            return [b"{}"]
        return moto(environ, start_response)

    run_simple("127.0.0.1", port, app, threaded=True)


def _merged(properties, overrides):
    """The definition of one run: each node with its own variables, as Batch gives them."""
    count = overrides.get("numNodes", properties["numNodes"])
    (base,) = properties["nodeRangeProperties"]
    (override,) = overrides.get("nodePropertyOverrides", [{}])
    more = override.get("containerOverrides", {})
    nodes = []
    for index in range(count):
        given = {
            one["name"]: one["value"] for one in base["container"].get("environment", []) + more.get("environment", [])
        }
        given |= {
            "AWS_BATCH_JOB_NODE_INDEX": str(index),
            "AWS_BATCH_JOB_NUM_NODES": str(count),
            "AWS_BATCH_JOB_MAIN_NODE_INDEX": "0",
        }
        environment = [{"name": name, "value": value} for name, value in given.items()]
        container = {"command": [], **base["container"], **more, "environment": environment}
        nodes.append({"targetNodes": f"{index}:{index}", "container": container})
    return {**properties, "numNodes": count, "nodeRangeProperties": nodes}


if __name__ == "__main__":
    serve(int(sys.argv[1]))
